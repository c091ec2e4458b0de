"""To and from the Hugging Face Hub: fetch a checkpoint, write its model card."""

import json
import re
import shlex
from pathlib import Path

from ddpm_demo.errors import UserError

PARTS = ["unet/*.json", "unet/*.safetensors", "scheduler/*.json", "*.json", "*.md", "*.png", "*.safetensors"]


def pull(source: str) -> Path:
    """The local folder of Hub repository ``user/name`` or ``user/name@revision``, from the cache where possible.

    UserError if ``source`` has not that form, or the repository cannot be had.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", source) or source.startswith(".") or Path(source).exists():
        raise UserError(
            f"{source} is neither a checkpoint folder nor a Hub repository of the form user/name[@revision]"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    name, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=PARTS))
    except RepositoryNotFoundError as error:
        raise UserError(f"the Hub has no repository {name} that you may read, and there is no such folder") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{source} is no folder here, and the Hub could not deliver it ({type(error).__name__}): check the name "
            "and the connection"
        ) from error


def write_card(folder: Path) -> None:
    """Write ``README.md``, the model card, from the checkpoint's own files."""
    about = json.loads((folder / "demo.json").read_text())
    measured = folder / "metrics.json"
    metrics = json.loads(measured.read_text()) if measured.exists() else {}
    (folder / "README.md").write_text(card(about, metrics))


def training_command(training: dict) -> str:
    """The ``train.py`` command line that repeats a training."""
    words = ["python", "train.py"]
    for name, value in training.items():
        flag = "--" + name.replace("_", "-")
        if name in ("steps", "seconds", "device") or value is None or value == []:
            continue
        if isinstance(value, bool):
            if name == "cfg":
                words += [flag] if value else []
            else:
                words.append(flag if value else f"--no-{flag[2:]}")
        else:
            words += [flag, *(f"{v:g}" if isinstance(v, float) else str(v) for v in as_list(value))]
    return shlex.join(words)


def as_list(value) -> list:
    """A list or tuple as a list, anything else in one."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def card(about: dict, metrics: dict) -> str:
    """The model card's text."""
    training, patch, names = about["training"], about["codec"]["patch"], about["label_names"]
    kind = (
        f"class-conditional ({len(names)} classes), with classifier-free guidance (Ho & Salimans 2022)"
        if names
        else "unconditional"
    )
    channels, size = about["channels"] * patch**2, about["image_size"] // patch
    parts = [
        "---\nlibrary_name: diffusers\nlicense: mit\ntags: [diffusion, ddpm, classifier-free-guidance]\n"
        f"datasets: [{about['dataset']}]\n---\n",
        f"# DDPM on {about['dataset']}\n",
        f"A diffusion model (DDPM, Ho et al. 2020), {kind}, of "
        f"{about['channels']}x{about['image_size']}x{about['image_size']} images, diffused as {patch}x{patch} patches "
        f"in {channels} channels. Predicts `{training['prediction']}`, trained on the {training['schedule']} schedule.\n",
        "![samples, one row per class](samples.png)\n",
        f"## Trained by\n\n```\n{training_command(training)}\n```\n\n"
        f"{training['steps']} steps in {training['seconds'] / 60:.0f} minutes (device: {training['device']}).\n",
    ]
    if metrics.get("quality"):
        parts.append(measured(metrics))
    label = ", torch.full((8,), 3)" if names else ""
    parts.append(
        "## With diffusers alone\n\n```python\nimport torch\nfrom diffusers import DDPMScheduler, UNet2DModel\n\n"
        'folder = "."  # where this file is, or the Hub id\n'
        'unet = UNet2DModel.from_pretrained(folder, subfolder="unet")\n'
        'scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")\n'
        "scheduler.set_timesteps(100)\n"
        f"x = torch.randn(8, {channels}, {size}, {size})\n"
        "with torch.no_grad():\n    for t in scheduler.timesteps:\n"
        f"        x = scheduler.step(unet(x, t{label}).sample, t, x).prev_sample\n"
        f"images = torch.nn.functional.pixel_shuffle(x, {patch})  # (8, {about['channels']}, {about['image_size']}, "
        f"{about['image_size']}), [-1, 1]\n```\n"
    )
    return "\n".join(parts)


def measured(metrics: dict) -> str:
    """The card's quality table: the settings measured on the most samples, and what as many real images would get."""
    most = max(cell["setting"]["samples"] for cell in metrics["quality"])
    cells = [cell for cell in metrics["quality"] if cell["setting"]["samples"] == most]
    rows = [
        f"| {c['setting']['sampler']}, {c['setting']['steps']} steps, {c['setting']['schedule']} | "
        f"{c['setting']['weight']:g} | {c['fid_test']:.3f} ± {c['spread']['fid_test']:.3f} | {c['fid_train']:.3f} | "
        f"{c['precision']:.3f} | {c['recall']:.3f} | {c.get('accuracy', float('nan')):.2%} |"
        for c in cells
    ]
    real = cells[0]["reference"]
    rows.append(
        f"| as many real training images | | {real['fid_test']:.3f} | | {real['precision']:.3f} | {real['recall']:.3f} | |"
    )
    weights = " ".join(f"{c['setting']['weight']:g}" for c in cells)
    more = len(metrics["quality"]) - len(cells)
    also = f" {more} more settings, on fewer samples, are in `metrics.json`." if more else ""
    memorised = metrics.get("memorised")
    recited = (
        f"\n\n![samples, and the training image nearest to each](nearest.png)\n\nMemorised? Samples are "
        f"{memorised['median']:.3f} away from their nearest training image (median, root mean square of pixels), real "
        f"test images {memorised['median_of_test_images']:.3f}."
        if memorised
        else ""
    )
    return (
        f"## Measured by\n\n```\npython -m ddpm_demo.evaluation --checkpoint FOLDER --data-dir DIR --weight {weights} "
        f"--samples {most}\n```\n\n| sampling | w | FID to test | FID to train | precision | recall | read as asked |\n"
        "|---|---|---|---|---|---|---|\n" + "\n".join(rows) + f"\n\n{most} samples a setting.{also} FID, precision and "
        "recall are on the features of `classifier.safetensors`, which reads "
        f"{metrics['classifier_test_accuracy']:.2%} of the real test images; all real test images against all real "
        f"training images are at {metrics['floor']:.4f}. These figures compare with each other, not with Inception "
        f"FID.{recited}\n"
    )
