import pytest
import torch

from ddpm_demo.diffusion.denoiser import PREDICTIONS, Denoiser, alpha_sigma, loss, target_weights
from ddpm_demo.diffusion.schedule import Schedule


class Oracle:
    """A network that knows the answer: it returns the target of the x0 and eps it was given."""

    def __init__(self, prediction, schedule, x0, eps):
        self.prediction, self.schedule, self.x0, self.eps = prediction, schedule, x0, eps

    def __call__(self, x, timestep, label=None, image=None):
        log_snr = self.schedule.log_snr(timestep)
        alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in alpha_sigma(log_snr))
        a, b = target_weights(self.prediction, alpha, sigma)
        return a * self.x0 + b * self.eps


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_a_perfect_network_gives_the_clean_image_and_no_loss(prediction, name):
    schedule = Schedule.named(name)
    x0, eps = torch.randn(2, 6, 1, 4, 4, dtype=torch.float64)
    log_snr = schedule.log_snr(torch.tensor([0, 10, 200, 500, 800, 950]))
    denoiser = Denoiser(Oracle(prediction, schedule, x0, eps), schedule, prediction)
    alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in alpha_sigma(log_snr))
    torch.testing.assert_close(denoiser(alpha * x0 + sigma * eps, log_snr), x0, rtol=1e-4, atol=1e-4)
    for weighting in ("simple", "min-snr"):
        assert loss(denoiser, x0, log_snr, eps, weighting=weighting).max() < 1e-6


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_min_snr_weighs_the_error_of_the_clean_estimate(prediction):
    """min(SNR, 5) * |x0 - x0_hat|^2, whatever the network predicts (Hang et al. 2023, section 3.4)."""
    schedule = Schedule.named("cosine")
    x0, eps, wrong = torch.randn(3, 5, 1, 4, 4, dtype=torch.float64)
    log_snr = schedule.log_snr(torch.tensor([20, 200, 400, 600, 900]))

    def net(x, timestep, label, image):
        return wrong

    denoiser = Denoiser(net, schedule, prediction)
    alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in alpha_sigma(log_snr))
    x0_hat = denoiser(alpha * x0 + sigma * eps, log_snr)
    expected = log_snr.exp().clamp(max=5) * (x0 - x0_hat).square().flatten(1).mean(1)
    torch.testing.assert_close(loss(denoiser, x0, log_snr, eps, weighting="min-snr"), expected)


def test_simple_is_the_error_of_epsilon():
    """L_simple (Ho et al. 2020, eq. 14)."""
    schedule = Schedule.named("linear")
    x0, eps, output = torch.randn(3, 5, 1, 4, 4)
    denoiser = Denoiser(lambda x, t, label, image: output, schedule, "epsilon")
    log_snr = schedule.log_snr(torch.arange(5) * 200)
    torch.testing.assert_close(loss(denoiser, x0, log_snr, eps), (output - eps).square().mean((1, 2, 3)))


def test_the_contrastive_optimum_moves_away_from_the_other_targets():
    """If outputs are free, the loss is least at (target - W * other target) / (1 - W); without a label, at the target."""
    schedule, W = Schedule.named("cosine"), 0.05
    x0, eps = torch.randn(2, 4, 1, 4, 4, dtype=torch.float64)
    log_snr, known = schedule.log_snr(torch.tensor([20, 300, 500, 900])), torch.tensor([True, True, False, True])
    output = torch.zeros_like(x0, requires_grad=True)
    denoiser = Denoiser(lambda x, t, label, image: output.double(), schedule, "v_prediction")
    alpha, sigma = (c.reshape(-1, 1, 1, 1) for c in alpha_sigma(log_snr))
    target, other = alpha * eps - sigma * x0, alpha * eps.roll(1, 0) - sigma * x0.roll(1, 0)
    output.data = torch.where(known.reshape(-1, 1, 1, 1), (target - W * other) / (1 - W), target)
    loss(denoiser, x0, log_snr, eps, contrast=W * known).sum().backward()
    assert output.grad.abs().max() < 1e-6


def test_the_network_is_given_the_state_its_timestep_the_label_and_the_image():
    """The timestep of the network's own schedule, fractional, in float32; the same from the denoiser and in training."""
    schedule, given = Schedule.named("linear"), []
    x0, eps = torch.randn(2, 3, 1, 2, 2, dtype=torch.float64)
    t, label, image = (
        torch.tensor([0.25, 500.5, 998.75], dtype=torch.float64),
        torch.tensor([3, 1, 2]),
        x0.repeat(1, 2, 1, 1),
    )

    def net(*inputs):
        given.append(inputs)
        return inputs[0]

    denoiser, log_snr = Denoiser(net, schedule, "sample"), schedule.log_snr(t)
    bar = torch.sigmoid(log_snr).reshape(-1, 1, 1, 1)
    denoiser(bar.sqrt() * x0 + (1 - bar).sqrt() * eps, log_snr, label, image)
    loss(denoiser, x0, log_snr, eps, label, image=image)
    for x, timestep, its_label, its_image in given:
        torch.testing.assert_close(x, bar.sqrt() * x0 + (1 - bar).sqrt() * eps)
        torch.testing.assert_close(timestep, t.float(), rtol=0, atol=1e-3)
        assert its_label is label and its_image is image


def test_the_loss_of_half_precision_is_computed_in_float32():
    """A sum of squares of half precision numbers would round, or overflow."""
    x0 = torch.zeros(1, 1, 2, 2)
    denoiser = Denoiser(lambda x, *_: torch.full_like(x, 300).half(), Schedule.named("linear"), "sample")
    found = loss(denoiser, x0, torch.zeros(1), x0.half())
    assert found.dtype == torch.float32 and found.item() == 90000  # half precision ends at 65504


def test_wrong_names():
    with pytest.raises(ValueError, match="prediction is 'noise'; it must be one of epsilon, v_prediction, sample"):
        Denoiser(None, Schedule.named("cosine"), "noise")
    denoiser = Denoiser(lambda x, t, label, image: x, Schedule.named("cosine"))
    with pytest.raises(ValueError, match="weighting is 'snr'; it must be one of simple, min-snr"):
        loss(denoiser, torch.zeros(1, 1, 2, 2), torch.zeros(1), torch.zeros(1, 1, 2, 2), weighting="snr")
