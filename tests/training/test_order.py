"""The images of a training step: their order, the share of each process, and their encoding."""

from itertools import chain
from types import SimpleNamespace

import pytest
import torch

from ddpm_demo.data.datasets import Data
from ddpm_demo.errors import UserError
from ddpm_demo.models.codec import Codec
from ddpm_demo.training.batches import Batches

COUNT, SIZE = 26, 6  # four batches in an epoch, and two images left over
IMAGES = torch.randint(0, 256, (COUNT, 1, 4, 4), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
DATA = Data(IMAGES, torch.arange(COUNT), tuple(map(str, range(COUNT))))  # the label tells the image


def batches(seed=0, flip=False, process=0, processes=1, latent=None, condition="add", codec=Codec(2)):  # noqa: B008
    settings = SimpleNamespace(batch_size=SIZE, seed=seed, flip=flip, latent=latent, condition=condition)
    device = torch.device("cpu")
    place = SimpleNamespace(process_index=process, num_processes=processes, device=device, is_main_process=True)
    prepared = Batches(DATA, settings, place)
    prepared.prepare(codec)
    return prepared


def epoch_of(drawn, number=0):
    return [drawn.choose(step).tolist() for step in range(4 * number, 4 * number + 4)]


def test_an_epoch_shows_an_image_at_most_once_in_an_order_of_its_own():
    order = [epoch_of(batches(), epoch) for epoch in range(3)]
    for epoch in order:
        assert [len(step) for step in epoch] == [SIZE] * 4 and len(set(chain(*epoch))) == 4 * SIZE
    assert order[0] != order[1] != order[2] != order[0] and epoch_of(batches(seed=9)) != order[0]
    assert [batches().choose(step).tolist() for step in (9, 2)] == [order[2][1], order[0][2]]  # wherever it resumes


def test_processes_share_a_batch():
    together, shares = epoch_of(batches()), [epoch_of(batches(process=k, processes=3)) for k in range(3)]
    for whole, *parts in zip(together, *shares):
        assert sorted(whole) == sorted(chain(*parts)) and {len(part) for part in parts} == {2}


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(UserError, match="batch size 6 cannot be shared evenly by 4 processes"):
        batches(processes=4)


def test_an_image_comes_encoded_with_its_label():
    x0, label, image = batches().draw(5)
    torch.testing.assert_close(Codec(2).decode(x0), IMAGES[label].float() / 127.5 - 1)
    assert image is None
    *_, image = batches(condition="image").draw(5)
    assert image.shape == (SIZE, 4 + 1, 2, 2)


@pytest.mark.parametrize("latent", [None, "runs/ae"])
@pytest.mark.parametrize("flip", [False, True])
def test_half_of_the_images_are_mirrored_left_to_right_if_asked(flip, latent):
    """Latents are encoded once, from the images and from the mirrored ones."""
    drawn, mirrored = batches(flip=flip, latent=latent, codec=Codec(1)), []
    torch.manual_seed(0)
    for step in range(20):
        x0, label, _ = drawn.draw(step)
        originals = IMAGES[label].float() / 127.5 - 1
        same, turned = ((x0 - other).abs().amax((1, 2, 3)) < 1e-3 for other in (originals, originals.flip(-1)))
        assert (same ^ turned).all()
        mirrored += turned.tolist()
    assert (0.3 < sum(mirrored) / len(mirrored) < 0.7) if flip else not any(mirrored)
