from dataclasses import replace

import pytest
import torch
from conftest import SHIPPED, KnownNetwork, tiny_model, tiny_student
from PIL import Image

import ddpm_demo
from ddpm_demo import UserError
from ddpm_demo.data.images import split_row
from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.generation.zero_shot import classify


@pytest.mark.slow
def test_it_reads_real_digits():
    model = ddpm_demo.load(SHIPPED)
    with Image.open(SHIPPED / "examples.png") as row:
        digits = split_row(row, 1, 28)
    read = []
    for digit in digits:
        *_, last = classify(model, digit, draws=16)
        read.append(last.errors.argmin().item())
    assert sum(label == k for k, label in enumerate(read)) >= 9  # 40 of the first 40 test digits were, at 16 draws


def test_it_firms_up_and_compares_in_pairs(model):
    readings = list(classify(model, torch.zeros(1, 16, 16), draws=12, batch=4))
    assert [reading.draws for reading in readings] == [4, 8, 12] and readings[0].total == 12
    last = readings[-1]
    assert last.excess.min() == 0 and last.excess[last.errors.argmin()] == 0
    assert last.spread[last.errors.argmin()] == 0 and bool((last.spread >= 0).all())
    again = list(classify(model, torch.zeros(1, 16, 16), draws=12, batch=6))[-1]
    torch.testing.assert_close(again.errors, last.errors, atol=1e-4, rtol=1e-4)  # the same draws, in larger batches


def test_the_figures_are_those_of_the_noise_estimates(model):
    """From what the network is given and returns: the noise, its estimate for every class, and paired differences."""
    seen, schedule = [], model.denoiser.schedule

    def compute(x, timestep, label, image):
        output = torch.tanh(x * (0.2 + 0.3 * label.reshape(-1, 1, 1, 1)))
        seen.append((x.double(), schedule.log_snr(timestep), label, output.double()))
        return output

    image = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    model = replace(model, denoiser=Denoiser(KnownNetwork(compute), schedule, "sample"))
    readings = list(classify(model, image, draws=16, batch=4))
    x, log_snr, label, x0_hat = (torch.cat(parts) for parts in zip(*seen))
    alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in (torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr).sqrt()))
    noise, noise_hat = (x - alpha * model.codec.encode(image[None])) / sigma, (x - alpha * x0_hat) / sigma
    errors = (noise - noise_hat).square().mean((1, 2, 3)).reshape(16, 3)
    assert label.reshape(16, 3).tolist() == [[0, 1, 2]] * 16
    assert ((log_snr[::3].sort().values + 4) * 2).floor().tolist() == list(range(16))  # one in each part of -4 .. 4
    assert log_snr[::3].diff().abs().max() > 2 and ((log_snr[::3] * 2) % 1).std() > 0.1  # in random order and place
    assert abs(noise.std() - 1) < 0.03 and torch.allclose(noise[0], noise[2], atol=1e-4)
    assert abs(torch.corrcoef(noise[::3].flatten(1)) - torch.eye(16)).max() < 0.3
    for reading in readings:
        seen_so_far = errors[: reading.draws]
        paired = seen_so_far - seen_so_far[:, [seen_so_far.mean(0).argmin()]]
        torch.testing.assert_close(reading.errors, seen_so_far.mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(reading.excess, paired.mean(0), rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(reading.spread, paired.std(0) / reading.draws**0.5, rtol=1e-3, atol=1e-4)


def test_what_it_cannot_read_is_a_sentence(model):
    with pytest.raises(UserError, match="without classes"):
        next(classify(tiny_model(classes=0), torch.zeros(1, 16, 16)))
    with pytest.raises(UserError, match="image has shape"):
        next(classify(model, torch.zeros(1, 28, 28)))


def test_what_cannot_be_classified_is_refused_at_once(model):
    image = torch.zeros(1, 16, 16)
    with pytest.raises(UserError, match="draws is 0; it must be a whole number from 1"):
        classify(model, image, draws=0)
    with pytest.raises(UserError, match="classification by a diffusion model needs a denoiser for every noise level"):
        classify(tiny_student(model), image)
