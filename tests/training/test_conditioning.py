"""How the network is told what is wanted: each of the three ways is used, and a wrong condition shows."""

from dataclasses import replace

import pytest
import torch
from accelerate import Accelerator
from test_training import SETTINGS

from ddpm_demo import Completion, generate
from ddpm_demo.data import datasets as data
from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation import restoration
from ddpm_demo.models.adapters import adapt, class_tokens
from ddpm_demo.models.codec import Codec
from ddpm_demo.models.networks import build_unet
from ddpm_demo.models.partial_image import (
    WithImage,
    draw_boxes,
    draw_tasks,
    encode_partial,
    enlarge,
    hide_pixels,
    remove_detail,
    shrink,
)
from ddpm_demo.training import loop as training

SIZE = 8


@pytest.fixture(scope="module")
def shades() -> data.Data:
    """Flat images, dark (class 0) or bright (class 1), each of a shade of its own."""
    labels = torch.arange(128) % 2
    shade = torch.randint(0, 60, (128,), generator=torch.Generator().manual_seed(0)) + 180 * labels
    return data.Data(shade.byte().reshape(-1, 1, 1, 1).expand(-1, 1, SIZE, SIZE).clone(), labels, ("dark", "bright"))


@pytest.fixture(scope="module")
def learned(shades, tmp_path_factory):
    """A small network trained with each condition, on demand."""
    found = {}

    def model(condition: str):
        if condition not in found:
            settings = replace(
                SETTINGS, image_size=SIZE, condition=condition, epochs=40.0, lr=1e-2, dropout=0.0, flip=False,
                widths=(16, 32), loss_weighting="simple",
            )  # fmt: skip
            folder = tmp_path_factory.mktemp(condition)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(training, "SAMPLE_COLUMNS", 1)
                run = training.Run(settings, shades, shades, folder, Accelerator(cpu=True))
                *_, last = training.train(run, sample_every=10**6)
            found[condition] = last.model
        return found[condition]

    return model


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["add", "cross-attention", "image"])
def test_the_class_is_used(learned, condition):
    images = generate(learned(condition), [0] * 16 + [1] * 16, steps=10)
    brightness = images.mean((1, 2, 3))
    assert brightness[:16].max() < -0.2 and brightness[16:].min() > 0.2


@pytest.mark.slow
def test_the_image_beside_is_used(learned, shades):
    """No class is asked for: what is painted anew has the shade that is known around it, and not another's."""
    model, (images, _) = learned("image"), shades.batch(torch.arange(32))
    painted = restoration.restore(model, images, "complete")
    hidden = ~restoration.middle_hole(SIZE)
    error = (painted - images)[..., hidden].abs().mean()
    wrong = (restoration.restore(model, images.roll(1, 0), "complete") - images)[..., hidden].abs().mean()
    assert error < 0.4 and wrong > 2 * error
    larger = restoration.restore(model, images, "enlarge")
    assert (larger - images).abs().mean() < 0.4


@pytest.mark.slow
def test_without_an_image_beside_a_known_part_is_kept_by_replacement(learned, shades):
    images, _ = shades.batch(torch.arange(4))
    painted = restoration.restore(learned("add"), images, "complete")
    keep = restoration.middle_hole(SIZE)
    torch.testing.assert_close(painted[..., keep], images[..., keep])
    assert restoration.tasks_of(learned("add")) == ("complete",)


@pytest.mark.slow
def test_one_image_for_each_or_one_for_all(learned):
    model, image = learned("image"), torch.full((1, SIZE, SIZE), -0.7)
    keep = restoration.middle_hole(SIZE)
    alone = generate(model, count=2, steps=4, begin=Completion(image, keep))
    each = generate(model, count=2, steps=4, begin=Completion(image.expand(2, 1, SIZE, SIZE), keep))
    torch.testing.assert_close(alone, each)
    with pytest.raises(UserError, match="image has shape"):
        generate(model, count=3, steps=4, begin=Completion(image.expand(2, 1, SIZE, SIZE), keep))


def test_tokens_of_a_class_are_its_own():
    tokens = class_tokens(torch.tensor([0, 2]), 2)  # label 2 is the null label
    assert tokens.shape == (2, 4, 12) and (tokens.sum(2) == 1).all()
    assert tokens.argmax(2).tolist() == [[0, 1, 2, 3], [8, 9, 10, 11]]


def test_boxes_are_boxes():
    keep = draw_boxes(200, 32, torch.device("cpu"))
    missing = (~keep).float().mean((1, 2, 3))
    assert keep.shape == (200, 1, 32, 32) and missing.min() > 0.04 and missing.max() < 0.64
    rows, columns = ((~keep).any(axis) for axis in (3, 2))
    torch.testing.assert_close((rows[..., None] & columns[..., None, :]), ~keep)


def test_tasks_hide_what_they_should():
    images = torch.rand(300, 3, 16, 16) + 0.1
    shown, known = draw_tasks(images)
    full = known.flatten(1).mean(1)
    nothing = shown.flatten(1).abs().sum(1) == 0
    holes = full > 0
    assert 0.3 < holes.float().mean() < 0.5 and 0.12 < nothing.float().mean() < 0.28
    assert (shown[holes] == images[holes] * known[holes]).all()
    small = ~holes & ~nothing
    torch.testing.assert_close(shown[small], remove_detail(images[small])[0])
    torch.testing.assert_close(shrink(images), images.unfold(2, 4, 4).unfold(3, 4, 4).mean((4, 5)))
    flat = torch.full((1, 3, 4, 4), 0.3)
    torch.testing.assert_close(enlarge(flat, 16), torch.full((1, 3, 16, 16), 0.3))


def test_what_goes_beside_x_and_through_guidance():
    keep = torch.zeros(16, 16, dtype=torch.bool)
    keep[:8] = True
    image = torch.full((2, 1, 16, 16), 0.5)
    given = encode_partial(Codec(2), *hide_pixels(image, keep))
    assert given.shape == (2, 5, 8, 8)
    assert (given[:, :, :4] == torch.tensor([0.5, 0.5, 0.5, 0.5, 1.0]).reshape(5, 1, 1)).all() and (
        given[:, :, 4:] == 0
    ).all()
    net = build_unet((4, 8, 8), (8, 16), 3, layers=1, condition="image").eval()
    denoiser = Denoiser(adapt(net, "image"), Schedule.named("cosine"), "v_prediction")
    x, label = torch.randn(2, 4, 8, 8), torch.tensor([0, 1])
    with torch.no_grad():
        once = WithImage(denoiser, given)(x, 0.0, label)
        twice = WithImage(denoiser, given)(x.repeat(2, 1, 1, 1), 0.0, label.repeat(2))
        free = denoiser(x, 0.0, label)
        zeros = denoiser(x, 0.0, label, torch.zeros_like(given))
    torch.testing.assert_close(twice, once.repeat(2, 1, 1, 1))
    torch.testing.assert_close(free, zeros)
    assert not torch.allclose(free, once)


def test_an_unknown_way_is_said():
    with pytest.raises(ValueError, match="condition is 'glue'; it must be one of add, cross-attention, image"):
        adapt(torch.nn.Identity(), "glue")
