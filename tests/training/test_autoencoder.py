"""Latent diffusion: the autoencoder, its latents, and networks that diffuse them, real and small."""

import itertools
import json
from types import SimpleNamespace

import pytest
import torch
from conftest import run
from diffusers import AutoencoderKL

import train
from ddpm_demo import generate, sample
from ddpm_demo.data import datasets as data
from ddpm_demo.data.images import tile_channels
from ddpm_demo.errors import UserError
from ddpm_demo.models import checkpoint
from ddpm_demo.models.adapters import condition_of
from ddpm_demo.models.codec import LatentCodec, load_vae, save_vae
from ddpm_demo.training import autoencoder
from ddpm_demo.training.configuration import configure


@pytest.fixture(scope="module")
def colours() -> data.Data:
    """Smooth random images of two classes, bright and dark."""
    torch.manual_seed(0)
    small = torch.rand(96, 3, 3, 3) * 120
    images = (
        torch.nn.functional.interpolate(small, size=(16, 16), mode="bilinear")
        + 100 * (torch.arange(96) % 2)[:, None, None, None].float()
    )
    return data.Data(images.round().byte(), torch.arange(96) % 2, ("dark", "bright"))


@pytest.fixture(scope="module")
def trained(colours) -> torch.nn.Module:
    """An autoencoder of 40 steps, each of which takes a second by its clock."""
    vae, clock = autoencoder.build_autoencoder(3, 16), SimpleNamespace(perf_counter=itertools.count().__next__)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(autoencoder, "time", clock)
        for _ in autoencoder.train(vae, colours, minutes=40 / 60, batch_size=32):
            pass
    return vae.eval()


def test_it_learns_and_a_wrong_size_is_said(colours, trained):
    originals = colours.batch(torch.arange(96))[0]
    back = autoencoder.reconstruct(LatentCodec(trained), colours)
    mean = originals.mean((0, 2, 3), keepdim=True).expand_as(originals)
    assert autoencoder.psnr(back, originals) > autoencoder.psnr(mean, originals) + 3
    with pytest.raises(UserError, match="image size is 18; for an autoencoder it must be a multiple of 4"):
        autoencoder.build_autoencoder(3, 18)
    with pytest.raises(UserError, match="images of 3 channels whose size is a multiple of 4; these have 1 channels"):
        LatentCodec(trained).shape(1, 16)


def test_psnr_is_the_textbooks():
    images = torch.zeros(2, 3, 8, 8)
    assert autoencoder.psnr(images + 0.2, images).item() == pytest.approx(20.0)  # 10 log10(2^2 / 0.2^2)


def test_standardised_latents_have_unit_variance_and_decode_to_the_same(colours):
    torch.manual_seed(1)
    vae = autoencoder.build_autoencoder(3, 16).eval()
    images = colours.batch(torch.arange(96))[0]
    before = LatentCodec(vae).decode(LatentCodec(vae).encode(images))
    spread = vae.encode(images).latent_dist.std[0] / LatentCodec(vae).encode(images).std((0, 2, 3))[:, None, None]
    autoencoder.standardise_latents(vae, colours)
    latents = LatentCodec(vae).encode(images)
    torch.testing.assert_close(latents.mean((0, 2, 3)), torch.zeros(8), atol=2e-3, rtol=0)
    torch.testing.assert_close(latents.std((0, 2, 3)), torch.ones(8), atol=2e-3, rtol=0)
    torch.testing.assert_close(LatentCodec(vae).decode(latents), before, atol=1e-3, rtol=0)
    # and the posterior's own noise shrank or grew with them
    torch.testing.assert_close(vae.encode(images).latent_dist.std[0], spread, atol=1e-2, rtol=0.01)


def test_stock_diffusers_loads_it(tmp_path, trained, colours):
    save_vae(trained, tmp_path)
    stock = AutoencoderKL.from_pretrained(tmp_path, subfolder="vae")
    assert stock.config.scaling_factor == 1.0
    images = colours.batch(torch.arange(4))[0]
    latents = LatentCodec(load_vae(tmp_path)).encode(images)
    with torch.no_grad():
        again = stock.encode(images).latent_dist.mode()
    torch.testing.assert_close(again, latents, atol=1e-3, rtol=0)
    with pytest.raises(UserError, match="vae is missing: train it with  python train.py --autoencoder"):
        load_vae(tmp_path / "none")


def test_a_resumed_training_adds_its_time_to_the_earlier(colours, tmp_path):
    """The report says how long it took in all. The first report is made longer, to tell it from a slow machine."""
    few = data.Data(colours.images[:16], colours.labels[:16], colours.label_names)
    short = configure({"dataset": "cifar10", "minutes": 0.0005}, "cpu")
    autoencoder.learn(few, few, tmp_path, short)
    path = tmp_path / "autoencoder.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"seconds": 1000.0}))
    autoencoder.learn(few, few, tmp_path, short, resume=True)
    assert 1000 < json.loads(path.read_text())["seconds"] < 1500
    (tmp_path / "autoencoder.json").unlink()
    with pytest.raises(UserError, match="it is not known how long this autoencoder was trained"):
        autoencoder.learn(colours, colours, tmp_path, short, resume=True)


def test_known_latents_are_those_all_of_whose_pixels_are(trained):
    keep = torch.ones(16, 16, dtype=torch.bool)
    keep[3:5, 9] = False
    known = LatentCodec(trained).encode_mask(keep, 3)
    assert known.shape == (1, 8, 4, 4)
    assert (~known[0, 0]).nonzero().tolist() == [[0, 2], [1, 2]]


def test_tiles_show_every_channel():
    latents = torch.arange(8.0).reshape(1, 8, 1, 1).expand(1, 8, 4, 4)
    sheet = tile_channels(latents, 16)
    assert sheet.shape == (1, 1, 16, 16)
    assert sheet[0, 0, 4:12].unique().tolist() == pytest.approx([k / 3 for k in range(8)])  # two rows of four
    assert (sheet[0, 0, :4] == -1).all() and (sheet[0, 0, 12:] == -1).all()
    assert sheet[0, 0, 4, 0] == 0 and sheet[0, 0, 8, 0] == pytest.approx(4 / 3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, colours):
    """DIR/<class>/*.png of the colours, and an autoencoder trained on them from the command line."""
    from PIL import Image

    root = tmp_path_factory.mktemp("latent")
    for k, image in enumerate(colours.images):
        place = root / "images" / colours.label_names[k % 2]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(place / f"{k:03}.png")
    data_flags = ("--dataset", "folder", "--data-dir", root / "images", "--image-size", "16")
    first = run("train.py", "--autoencoder", *data_flags, "--minutes", "0.1", "--output-dir", root / "ae")
    assert first.returncode == 0, first.stderr
    assert "dB on 4 test images" in first.stdout and f"--latent {root / 'ae'}" in first.stdout
    told = json.loads((root / "ae/autoencoder.json").read_text())
    assert told["latents"] == [8, 4, 4] and told["psnr"] > 5 and (root / "ae/reconstructions.png").is_file()
    return root


def train_latent(root, condition: str, *more: str):
    return run(
        "train.py", "--dataset", "folder", "--data-dir", root / "images", "--image-size", "16", "--cfg", "--latent",
        root / "ae", "--condition", condition, "--widths", "16", "32", "--epochs", "3", "--batch-size", "16",
        "--mixed-precision", "no",
        "--output-dir", root / condition, *more,
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("condition", ["add", "cross-attention", "image"])
def test_trained_saved_loaded_and_sampled(folder, condition):
    done = train_latent(folder, condition)
    assert done.returncode == 0, done.stderr
    model = checkpoint.load(folder / condition)
    assert isinstance(model.codec, LatentCodec) and condition_of(model.denoiser.net) == condition
    *_, last = sample(model, [0, 1], weight=1.0, steps=3)
    assert last.x0.shape == (2, 3, 16, 16) and last.x0.abs().max() <= 1
    assert last.x.shape == last.latents.shape == last.guidance.shape == (2, 8, 4, 4)
    torch.testing.assert_close(model.codec.decode(last.latents), last.x0)
    recorded = generate(model.trace(), [0, 1], weight=1.0, steps=3)
    torch.testing.assert_close(recorded, last.x0)
    assert (folder / condition / "denoising.webp").is_file() and (folder / condition / "autoencoder.json").is_file()
    card = (folder / condition / "README.md").read_text()
    assert "8x4x4 latents of the autoencoder" in card and f"--condition {condition}" in card


@pytest.mark.slow
def test_mistakes_are_sentences(folder, tmp_path, capsys):
    def refused(*arguments: str) -> str:
        given = ["--dataset", "folder", "--data-dir", folder / "images", "--image-size", "16", *arguments]
        assert train.main([str(word) for word in given]) == 2
        return capsys.readouterr().err

    here = ("--cfg", "--output-dir", tmp_path / "m")
    assert "is missing: train it with  python train.py --auto" in refused("--latent", tmp_path / "none", *here)
    assert "is there already: pass --resume" in refused("--autoencoder", "--output-dir", folder / "ae")
    assert "latents are not folded" in refused("--latent", folder / "ae", "--patch", "2", *here)
    assert "it needs --cfg, and --attention" in refused("--condition", "cross-attention", *here[1:])
