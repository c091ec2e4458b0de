import json

import pytest
import torch
import torch.nn.functional as F
from conftest import SHIPPED, tiny_model
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    DiffusionPipeline,
    UNet2DConditionModel,
    UNet2DModel,
)
from safetensors.torch import load_file

from ddpm_demo import generate
from ddpm_demo.errors import UserError
from ddpm_demo.files import LARGEST_FILE
from ddpm_demo.hub import client as hub
from ddpm_demo.models import checkpoint

EMBEDDED = [
    SHIPPED,
    *(SHIPPED.with_name(f"{name}-instant") for name in ("mnist", "cifar10")),
    *(SHIPPED.with_name(f"cifar10{kind}") for kind in ("", "-latent", "-image")),
]


@pytest.mark.parametrize("classes, channels, patch", [(3, 1, 2), (0, 3, 1)])
def test_saved_and_loaded_is_the_same_model(tmp_path, classes, channels, patch):
    model = tiny_model(classes, 16, channels, patch)
    checkpoint.save(model, tmp_path / "m")
    again = checkpoint.load(tmp_path / "m")
    assert (again.label_names, again.channels, again.image_size, again.codec) == (
        model.label_names, model.channels, model.image_size, model.codec,
    )  # fmt: skip
    assert torch.equal(again.denoiser.schedule.betas, model.denoiser.schedule.betas)
    settings = {"labels": [0, 2], "steps": 4} if classes else {"count": 2, "steps": 4}
    torch.testing.assert_close(generate(again, **settings), generate(model, **settings), atol=5e-3, rtol=0)  # fp16


def test_weights_are_half_precision_on_disk_and_single_in_memory(tmp_path, model):
    checkpoint.save(model, tmp_path)
    tensors = load_file(tmp_path / "unet/diffusion_pytorch_model.safetensors")
    assert {t.dtype for t in tensors.values()} == {torch.float16}
    assert next(checkpoint.load(tmp_path).denoiser.net.parameters()).dtype == torch.float32
    assert next(model.denoiser.net.parameters()).dtype == torch.float32  # saving left the model alone


def test_saving_again_replaces_every_part(tmp_path):
    checkpoint.save(tiny_model(3), tmp_path)
    (tmp_path / "metrics.json").write_text("{}")
    checkpoint.save(tiny_model(2), tmp_path)
    assert checkpoint.load(tmp_path).label_names == ("a", "b")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo.json", "metrics.json", "scheduler", "unet"]


def test_the_weaker_model_guides_and_must_fit(tmp_path):
    """Of two equal networks the weaker one changes nothing; another one does, with a label and without."""
    strong = tiny_model(3)
    checkpoint.save(strong, tmp_path)
    checkpoint.save(strong, tmp_path / "weak")
    model, settings = checkpoint.load(tmp_path), {"labels": [0, 2], "steps": 4}
    torch.testing.assert_close(
        generate(model, **settings, autoguidance=2.0), generate(model, **settings), atol=1e-6, rtol=0
    )
    with torch.no_grad():
        strong.denoiser.net.net.conv_out.bias += 0.1
    checkpoint.save(strong, tmp_path / "weak")
    model = checkpoint.load(tmp_path).trace()
    for start in (settings, {"count": 2, "steps": 4}):
        guided, free = (generate(model, **start, autoguidance=scale) for scale in (1.0, 0.0))
        assert (guided - free).abs().max() > 0.02
    with pytest.raises(UserError, match="autoguidance is 1.0, but this checkpoint has no weaker model: copy one"):
        generate(strong, **settings, autoguidance=1.0)


@pytest.mark.parametrize("weak, message", [
    (tiny_model(2), "its label_names is .*, that of the model is .*; they must be equal"),
    (tiny_model(3, size=8), "its image_size is 8"),
    (tiny_model(3, patch=1), "both models must diffuse the same pixels"),
    (tiny_model(3, condition="image"), "for networks without an image input"),
])  # fmt: skip
def test_a_weaker_model_that_does_not_fit_is_refused(tmp_path, weak, message):
    checkpoint.save(tiny_model(3), tmp_path)
    checkpoint.save(weak, tmp_path / "weak")
    with pytest.raises(UserError, match=message):
        checkpoint.load(tmp_path)


def test_what_is_wrong_with_a_folder_is_said(tmp_path, model):
    with pytest.raises(UserError, match="is neither a checkpoint folder nor a Hub repository"):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="could not be reached to fetch user/none"):
        checkpoint.load("user/none")
    with pytest.raises(UserError, match="demo.json is missing"):
        checkpoint.load(tmp_path)
    checkpoint.save(model, tmp_path)
    weights = tmp_path / "unet/diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(UserError, match="is not a checkpoint that can be loaded"):
        checkpoint.load(tmp_path)
    checkpoint.save(model, tmp_path)
    about = json.loads((tmp_path / "demo.json").read_text())
    (tmp_path / "demo.json").write_text(json.dumps(about | {"label_names": ["a"]}))
    with pytest.raises(UserError, match="demo.json names 1 labels, the network has 3"):
        checkpoint.load(tmp_path)


def test_pickled_weights_are_refused(tmp_path, model):
    checkpoint.save(model, tmp_path)
    (tmp_path / "unet/diffusion_pytorch_model.safetensors").unlink()
    torch.save(model.denoiser.net.state_dict(), tmp_path / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(UserError, match="is not a checkpoint that can be loaded"):
        checkpoint.load(tmp_path)


def test_the_shipped_model_samples_in_stock_diffusers():
    """DDIM, unguided, from the same noise: diffusers alone and this package give the same digits."""
    unet = UNet2DModel.from_pretrained(SHIPPED, subfolder="unet")
    assert isinstance(DDPMScheduler.from_pretrained(SHIPPED, subfolder="scheduler"), DDPMScheduler)
    scheduler = DDIMScheduler.from_pretrained(SHIPPED, subfolder="scheduler", timestep_spacing="trailing")
    scheduler.set_timesteps(25)
    labels = torch.tensor([3, 7])
    shape = (unet.config.in_channels, unet.config.sample_size, unet.config.sample_size)
    x = torch.stack([torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1)])
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, labels).sample, t, x, use_clipped_model_output=True).prev_sample
    model = checkpoint.load(SHIPPED)
    ours = generate(model, labels.tolist(), weight=0.0, sampler="ddim", schedule=model.training["schedule"], steps=25)
    torch.testing.assert_close(ours, F.pixel_shuffle(x, model.codec.patch), atol=0.02, rtol=0)


@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda path: path.name)
def test_the_shipped_files_are_small_and_without_pickles(folder):
    files = [p for p in folder.rglob("*") if p.is_file()]
    assert {p.suffix for p in files} <= {".json", ".jsonl", ".safetensors", ".png", ".md", ".webp"}
    assert max(p.stat().st_size for p in files) < LARGEST_FILE


@pytest.mark.parametrize("block", range(3))
@pytest.mark.parametrize("folder", EMBEDDED, ids=lambda path: path.name)
def test_the_cards_code_runs(folder, block, monkeypatch, tmp_path):
    """The three ways to sample of a shipped model card, from its own text, the first two at fewer steps."""
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path))
    code = (folder / "README.md").read_text().split("```python\n")[1 + block].split("```")[0]
    fewer = code.replace("set_timesteps(100)", "set_timesteps(10)").replace(
        "_scale=3.0", "_scale=3.0, num_inference_steps=4"
    )
    monkeypatch.chdir(hub.stage_checkpoint(folder, tmp_path / "published"))
    names: dict = {}
    exec(fewer, names)
    model = checkpoint.load(folder)
    size = (model.image_size, model.image_size)
    if block == 1:
        assert names["image"].size == size
        return
    assert names["images"].shape == (8 if block == 0 else 1, model.channels, *size)
    assert names["images"].abs().max() < (1.5 if model.codec.bounded else 3)


def test_the_shipped_latents_sample_in_stock_diffusers():
    """DDIM, unguided, from the same noise, with vae/, unet/ and scheduler/ as diffusers loads them."""
    folder = SHIPPED.with_name("cifar10-latent")
    vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")
    unet = UNet2DConditionModel.from_pretrained(folder, subfolder="unet")
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", timestep_spacing="trailing")
    scheduler.set_timesteps(20)
    labels, x = [6, 9], torch.stack([torch.randn(8, 8, 8, generator=torch.Generator().manual_seed(k)) for k in (0, 1)])
    tokens = torch.stack([torch.eye(44)[4 * label : 4 * label + 4] for label in labels])
    with torch.no_grad():
        for t in scheduler.timesteps:
            x = scheduler.step(unet(x, t, tokens).sample, t, x).prev_sample
        images = vae.decode(x).sample.clamp(-1, 1)
    model = checkpoint.load(folder)
    ours = generate(model, labels, weight=0.0, sampler="ddim", schedule=model.training["schedule"], steps=20)
    torch.testing.assert_close(ours, images, atol=0.02, rtol=0)


def test_the_pipeline_draws_what_the_package_draws(tmp_path):
    """The same noise, schedule and guidance: diffusers' DDIM in the pipeline against ours."""
    model = checkpoint.load(SHIPPED)
    tmp_path = hub.stage_checkpoint(SHIPPED, tmp_path / "published")
    pipeline = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(tmp_path), trust_remote_code=True)
    pipeline.scheduler = DDIMScheduler.from_config(
        pipeline.scheduler.config, timestep_spacing="trailing", clip_sample=False
    )
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline([7], 3.0, 20, generator=torch.Generator().manual_seed(4), output_type="np").images
    ours = generate(model, [7], weight=2.0, sampler="ddim", steps=20, seed=4)
    difference = (torch.tensor(drawn[0, :, :, 0]) * 2 - 1 - ours[0, 0].clamp(-1, 1)).abs()
    assert difference.mean() < 0.02
    for wrong in ([10], [-1]):
        with pytest.raises(ValueError, match="numbers from 0 to 9"):
            pipeline(wrong)
    assert pipeline(batch_size=2, num_inference_steps=1).images[0].size == (28, 28)


def test_an_unconditional_model_is_a_pipeline_too(tmp_path):
    checkpoint.save(tiny_model(0, 16, 3, 1), tmp_path)
    tmp_path = hub.stage_checkpoint(tmp_path, tmp_path / "published")
    pipeline = DiffusionPipeline.from_pretrained(tmp_path, custom_pipeline=str(tmp_path), trust_remote_code=True)
    assert pipeline(batch_size=3, num_inference_steps=2, output_type="np").images.shape == (3, 16, 16, 3)
    with pytest.raises(ValueError, match="no classes"):
        pipeline([0])
