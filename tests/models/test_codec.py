import pytest
import torch

from ddpm_demo.models.codec import Codec


@pytest.mark.parametrize("patch", [1, 2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_rearrangement_and_back(patch, channels):
    codec, images = Codec(patch), torch.randn(2, channels, 8, 8)
    x = codec.encode(images)
    assert x.shape[1:] == codec.shape(channels, 8)
    assert torch.equal(codec.decode(x), images)
    assert torch.equal(x.flatten().sort().values, images.flatten().sort().values)  # orthonormal: noise stays noise


def test_a_size_that_does_not_divide():
    with pytest.raises(ValueError, match="image size 27 is not a multiple of the patch size 2"):
        Codec(2).shape(1, 27)
