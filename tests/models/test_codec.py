import pytest
import torch
from diffusers import AutoencoderKL

from ddpm_demo.errors import UserError
from ddpm_demo.models import codec as codecs
from ddpm_demo.models.codec import Codec, LatentCodec, load_vae, save_vae


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


def test_known_patches_are_those_of_known_pixels():
    """In patches, a mask is that of the pixels, rearranged as the image is."""
    keep = torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    encoded = Codec(2).encode_mask(keep, 3)
    assert encoded.dtype == torch.bool and encoded.shape == (1, 12, 4, 4)
    assert torch.equal(Codec(2).decode(encoded.float())[0] > 0.5, keep.expand(3, 8, 8))


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    """A small autoencoder without training, whose decoder exceeds [-1, 1]."""
    torch.manual_seed(0)
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vae = AutoencoderKL(1, 1, block_out_channels=(8, 16), latent_channels=2, norm_num_groups=4, **blocks)
    vae.decoder.conv_out.weight.data *= 10
    return vae.eval().requires_grad_(False)


def test_latents_are_posterior_means_in_the_order_of_the_images(vae, monkeypatch):
    """In parts of any size; the mean is the mode of the posterior, and no noise is drawn."""
    monkeypatch.setattr(codecs, "CHUNK", 2)
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    latents = LatentCodec(vae).encode(images)
    torch.testing.assert_close(latents, vae.encode(images).latent_dist.mean, atol=1e-5, rtol=1e-4)
    assert latents.shape[1:] == LatentCodec(vae).shape(1, 8)
    plain = vae.decode(latents).sample
    assert plain.abs().max() > 1
    torch.testing.assert_close(LatentCodec(vae).decode(latents), plain.clamp(-1, 1), atol=1e-5, rtol=1e-4)


def test_images_that_do_not_fit_the_autoencoder(vae):
    for channels, size in ((3, 8), (1, 9)):
        with pytest.raises(UserError, match=f"is a multiple of 2; these have {channels} channels and size {size}"):
            LatentCodec(vae).shape(channels, size)


def test_a_latent_is_known_if_all_its_pixels_are(vae):
    keep = torch.ones(8, 8, dtype=torch.bool)
    keep[2, 5] = False
    known = LatentCodec(vae).encode_mask(keep, 1)
    assert known.shape == (1, 2, 4, 4) and (~known[0, 0]).nonzero().tolist() == [[1, 2]]
    assert torch.equal(known[0, 0], known[0, 1])


def test_a_loaded_autoencoder_is_the_saved_one_in_half_precision(vae, tmp_path):
    save_vae(vae, tmp_path)
    loaded, images = load_vae(tmp_path), torch.rand(2, 1, 8, 8)
    assert not loaded.training and not any(weight.requires_grad for weight in loaded.parameters())
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    expected = LatentCodec(vae).encode(images)
    torch.testing.assert_close(LatentCodec(loaded).encode(images), expected, atol=1e-2, rtol=1e-2)
