"""The model card: ``README.md`` of a checkpoint, written from its own files alone."""

import json
import shlex
from pathlib import Path

# The Hub's own names of the datasets, for the card's metadata.
HUB_DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "oxford-pets": "timm/oxford-iiit-pet",
}
FIGURES = (  # of a measured cell -> metric type and name on the Hub
    ("fid_test", "fid", "FID to test images, on the classifier's features"),
    ("precision", "precision", "improved precision"),
    ("recall", "recall", "improved recall"),
    ("accuracy", "accuracy", "read as the class asked for"),
)
LIMITS = """## Intended use and limits

For learning and teaching how diffusion models work, and for experiments on a small machine. It knows the images of its
training set and nothing else, has its biases and mistakes, and guidance narrows what it draws (see recall above). It is
not meant for producing training data, nor for any decision about people.
"""
CONDITIONED = {
    "cross-attention": " The network attends to four tokens of the class.",
    "image": " The network can be given an image to complete or to enlarge, in further channels.",
}
TASK = "unconditional-image-generation"  # the Hub's nearest, for a class label is no text


def write_card(folder: Path) -> None:
    """Write ``README.md``, the model card, from the checkpoint's own files."""
    about = json.loads((folder / "demo.json").read_text())
    measured = folder / "metrics.json"
    metrics = json.loads(measured.read_text()) if measured.exists() else {}
    animated = (folder / "denoising.webp").exists()
    encoded = folder / "autoencoder.json"
    autoencoder = None if about["codec"] else json.loads(encoded.read_text())
    (folder / "README.md").write_text(card(about, metrics, animated, autoencoder))


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


def metadata(about: dict, metrics: dict):
    """The card's front matter, as huggingface_hub builds it: what it is, and its headline figures (``model-index``)."""
    from huggingface_hub import EvalResult, ModelCardData

    name = f"ddpm-{about['dataset']}"
    dataset = HUB_DATASETS.get(about["dataset"])
    return ModelCardData(
        library_name="diffusers",
        license="mit",
        pipeline_tag=TASK,
        tags=["ddpm", "diffusion", *(["classifier-free-guidance"] if about["label_names"] else [])],
        datasets=[dataset] if dataset else None,
        model_name=name,
        eval_results=[
            EvalResult(
                task_type=TASK,
                dataset_type=dataset or about["dataset"],
                dataset_name=about["dataset"],
                dataset_split="test",
                metric_args={"guidance_weight": cell["setting"]["weight"], "steps": cell["setting"]["steps"]},
                metric_type=kind,
                metric_name=title,
                metric_value=cell[figure],
            )
            for cell in headline(metrics)
            for figure, kind, title in FIGURES
            if figure in cell
        ]
        or None,
    )


def headline(metrics: dict) -> list[dict]:
    """The settings measured on the most samples."""
    cells = metrics.get("quality", [])
    most = max((cell["setting"]["samples"] for cell in cells), default=0)
    return [cell for cell in cells if cell["setting"]["samples"] == most]


def card(about: dict, metrics: dict, animated: bool = False, autoencoder: dict | None = None) -> str:
    """The model card's text, with the animation and the autoencoder's figures where there are any."""
    training, names = about["training"], about["label_names"]
    kind = (
        f"class-conditional ({len(names)} classes), with classifier-free guidance (Ho & Salimans 2022)"
        if names
        else "unconditional"
    )
    told = CONDITIONED.get(about.get("condition"), "")
    parts = [
        f"---\n{metadata(about, metrics).to_yaml()}\n---\n",
        f"# {'Latent diffusion' if autoencoder else 'DDPM'} on {about['dataset']}\n",
        f"A diffusion model (DDPM, Ho et al. 2020), {kind}, of "
        f"{about['channels']}x{about['image_size']}x{about['image_size']} images, diffused as {diffused(about, autoencoder)}."
        f"{told} Predicts `{training['prediction']}`, trained on the {training['schedule']} schedule.\n",
        "![samples, one row per class](samples.png)\n",
        *(
            ["![noise becoming images: the noisy state on the left, the clean estimate on the right](denoising.webp)\n"]
            if animated
            else []
        ),
        f"## Trained by\n\n```\n{training_command(training)}\n```\n\n"
        f"{training['steps']} steps in {training['seconds'] / 60:.0f} minutes (device: {training['device']}).\n",
    ]
    if autoencoder:
        parts.append(
            f"Before it, the autoencoder, in {autoencoder['seconds'] / 60:.0f} minutes:\n\n```\npython train.py --autoencoder "
            f"--dataset {about['dataset']} --minutes {autoencoder['seconds'] / 60:.0f} --output-dir {training.get('latent', 'FOLDER')}\n```\n\n"
            "![test images, and below each what the autoencoder gives back](reconstructions.png)\n"
        )
    if metrics.get("quality"):
        parts.append(measured(metrics))
    if told := metrics.get("bits_per_dim"):
        parts.append(
            f"## Likelihood\n\n```\npython -m ddpm_demo.evaluation --checkpoint FOLDER --data-dir DIR --bits-per-dim "
            f"{told['images']}\n```\n\n{likelihood(told)}\n\n{told['images']} test images without their labels, +- the "
            "standard error. A bound is of the stochastic samplers; the ODE is a model of its own.\n"
        )
    parts.append(f"## With diffusers alone\n\n```python\n{diffusers_loop(about, autoencoder)}```\n")
    asked = "class_labels=[3], guidance_scale=3.0" if names else "batch_size=1"
    parts.append(
        "## As a diffusers pipeline\n\n```python\nfrom diffusers import DiffusionPipeline\n\n"
        'folder = "."  # where this repository is, or its Hub id\n'
        "pipeline = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)\n"
        f"image = pipeline({asked}).images[0]\n```\n\n"
        "`trust_remote_code` runs `pipeline.py` of this repository: read it first, it is short.\n"
    )
    asked = "labels=[3], weight=2.0" if names else "count=1"
    parts.append(
        "## With ddpm_demo\n\n```python\nimport ddpm_demo\n\n"
        'model = ddpm_demo.load(".")  # or the Hub id\n'
        f"images = ddpm_demo.generate(model, {asked}, steps=20)  # any schedule, any sampler\n"
        f"images.shape  # (1, {about['channels']}, {about['image_size']}, {about['image_size']}), [-1, 1]\n```\n"
    )
    parts.append(LIMITS)
    return "\n".join(parts)


def diffused(about: dict, autoencoder: dict | None) -> str:
    """What of the images is diffused, in words."""
    if autoencoder:
        return (
            f"{'x'.join(map(str, autoencoder['latents']))} latents of the autoencoder in `vae/` (Rombach et al. 2022), which "
            f"gives {autoencoder['test_images']} test images back at {autoencoder['psnr']:.1f} dB (PSNR)"
        )
    patch = about["codec"]["patch"]
    return f"{patch}x{patch} patches in {about['channels'] * patch**2} channels"


def diffusers_loop(about: dict, autoencoder: dict | None) -> str:
    """Sampling eight images, of class 3 where there are classes, without this project."""
    classes, condition = len(about["label_names"]), about.get("condition", "add")
    attends = condition == "cross-attention"
    unet, vae = "UNet2DConditionModel" if attends else "UNet2DModel", "AutoencoderKL, " if autoencoder else ""
    shape = about["channels"], about["image_size"], about["image_size"]
    if autoencoder:
        channels, height, width = autoencoder["latents"]
        image = "vae.decode(x).sample"
    else:
        patch = about["codec"]["patch"]
        channels, height, width = shape[0] * patch**2, shape[1] // patch, shape[2] // patch
        image = f"torch.nn.functional.pixel_shuffle(x, {patch})"
    x = "torch.cat([x, nothing], 1)" if condition == "image" else "x"
    asked = ", tokens" if attends else ", torch.full((8,), 3)" if classes else ""
    lines = [
        "import torch",
        f"from diffusers import {vae}DDPMScheduler, {unet}",
        "",
        'folder = "."  # where this file is, or the Hub id',
        *(['vae = AutoencoderKL.from_pretrained(folder, subfolder="vae")'] if autoencoder else []),
        f'unet = {unet}.from_pretrained(folder, subfolder="unet")',
        'scheduler = DDPMScheduler.from_pretrained(folder, subfolder="scheduler")',
        "scheduler.set_timesteps(100)",
        f"x = torch.randn(8, {channels}, {height}, {width})",
        *(
            [f"tokens = torch.eye({4 * (classes + 1)})[12:16].expand(8, -1, -1)  # class 3: rows 12 to 15"]
            if attends
            else []
        ),
        *([f"nothing = torch.zeros(8, {channels + 1}, {height}, {width})  # no image beside x"] if x != "x" else []),
        "with torch.no_grad():",
        "    for t in scheduler.timesteps:",
        f"        x = scheduler.step(unet({x}, t{asked}).sample, t, x).prev_sample",
        f"    images = {image}  # {(8, *shape)}, [-1, 1]",
    ]
    return "\n".join(lines) + "\n"


def likelihood(told: dict) -> str:
    """What the test images cost in bits per dimension, three ways, as Markdown."""

    def cell(figure: dict) -> str:
        return f"{figure['mean']:.3f} ± {figure['se']:.3f}"

    names = {"posterior": "bound, posterior variance", "beta": "bound, variance beta", "continuous": "continuous bound"}
    lines = ["| bits per dimension | L_T | L_t | L_0 | together |", "|---|---|---|---|---|"]
    for name, title in names.items():
        row = told[name]
        lines.append(f"| {title} | " + " | ".join(cell(row[part]) for part in ("L_T", "L_t", "L_0", "total")) + " |")
    if "ode" in told:
        lines.append(f"| probability-flow ODE ({told['ode']['images']} images) | | | | {cell(told['ode'])} |")
    return "\n".join(lines)


def measured(metrics: dict) -> str:
    """The card's quality table: the settings measured on the most samples, and what as many real images would get."""
    cells = headline(metrics)
    most = cells[0]["setting"]["samples"]
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
