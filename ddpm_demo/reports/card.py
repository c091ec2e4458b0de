"""The model card: ``README.md`` of a checkpoint, written from the files of its folder alone."""

import json
from dataclasses import fields
from pathlib import Path

from ddpm_demo.diffusion.distillation import Distilled
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.files import MARK, find_newest, identify_model
from ddpm_demo.models.checkpoint import list_trainings
from ddpm_demo.reports.results import most_sampled, read_metrics, sampling_of
from ddpm_demo.reports.tables import find_changed, tabulate_likelihood, tabulate_quality
from ddpm_demo.training.configuration import command_of

TEMPLATE = Path(__file__).with_name("card_template.md")
# The names of the datasets on the Hub, for the metadata of the card.
HUB_DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
    "oxford-pets": "timm/oxford-iiit-pet",
}
FIGURES = (  # (figure of a measured cell, its metric type on the Hub, its name on the Hub)
    ("fid_test", "fid", "FID to test images, on the classifier's features"),
    ("precision", "precision", "improved precision"),
    ("recall", "recall", "improved recall"),
    ("accuracy", "accuracy", "class accuracy"),
)
TASK = "unconditional-image-generation"  # the nearest task that the Hub knows: a class label is no text


def write_card(folder: Path) -> None:
    """Write ``README.md``, the model card, from the files of the checkpoint."""
    about = json.loads(find_newest(folder, "demo.json").read_text())
    autoencoder = None if about["codec"] else json.loads((folder / "autoencoder.json").read_text())
    animated = (folder / "denoising.webp").exists()
    metrics = {"model": identify_model(folder)} | read_metrics(folder)
    (folder / "README.md").write_text(render_card(about, metrics, animated, autoencoder))


def render_card(about: dict, metrics: dict, animated: bool = False, autoencoder: dict | None = None) -> str:
    """The text of the card. ``about`` is ``demo.json``; ``autoencoder`` is None where no latents are diffused.

    ``metrics`` is ``metrics.json``, with at least the hash of the model.
    """
    from huggingface_hub import ModelCard

    cells = most_sampled(metrics)
    card = ModelCard.from_template(
        describe_for_hub(about, cells, metrics["model"]),
        template_path=str(TEMPLATE),
        about=about,
        training=about["training"],
        trainings=(trainings := list_trainings(about["training"])),
        training_commands=[command_of(one) for one in trainings],
        classes=len(about["label_names"]),
        condition=about.get("condition", "add"),
        distilled=about.get("distilled"),
        weight_count=len(Distilled(**about["distilled"]).weights) if about.get("distilled") else 0,
        animated=animated,
        autoencoder=autoencoder,
        diffused=diffused_shape(about, autoencoder),
        metrics=metrics,
        cells=cells,
        sampling_flags=list_flags([sampling_of(cell) for cell in cells]),
        tabulate_quality=tabulate_quality,
        tabulate_likelihood=tabulate_likelihood,
    )
    return f"{card.content}\n"


def describe_for_hub(about: dict, cells: list[dict], model: str):
    """The metadata of the card, as huggingface_hub's ``ModelCardData``, with the figures of ``cells``.

    It contains the hash of the ``model`` that the card is about, which is compared before the card is published.
    """
    from huggingface_hub import EvalResult, ModelCardData

    dataset = HUB_DATASETS.get(about["dataset"])
    results = [
        EvalResult(
            task_type=TASK,
            dataset_type=dataset or about["dataset"],
            dataset_name=about["dataset"],
            dataset_split="test",
            metric_args={"sampler": sampling.sampler, "steps": sampling.steps, "guidance_weight": sampling.weight}
            | find_changed(sampling),
            metric_type=kind,
            metric_name=title,
            metric_value=cell[figure],
        )
        for sampling, cell in ((sampling_of(cell), cell) for cell in cells)
        for figure, kind, title in FIGURES
        if figure in cell
    ]
    return ModelCardData(
        library_name="diffusers",
        license="mit",
        pipeline_tag=TASK,
        tags=["ddpm", "diffusion", *(["classifier-free-guidance"] if about["label_names"] else [])],
        datasets=[dataset] if dataset else None,
        model_name=f"ddpm-{about['dataset']}",
        eval_results=results or None,
        **{MARK: model},
    )


def diffused_shape(about: dict, autoencoder: dict | None) -> tuple[int, int, int]:
    """(channels, height, width) of what is diffused: latents, or pixels folded into patches."""
    if autoencoder:
        return tuple(autoencoder["latents"])
    patch = about["codec"]["patch"]
    return about["channels"] * patch**2, about["image_size"] // patch, about["image_size"] // patch


def list_flags(settings: list[Sampling]) -> list[str]:
    """The flags of ``python -m ddpm_demo.evaluation samples`` for settings: a line for each command that is needed.

    A command measures all combinations of its values, so settings share one if they are all combinations of theirs. It takes
    a single interval.
    """
    defaults = {field.name: field.default for field in fields(Sampling)}
    groups = [{name: (getattr(sampling, name),) for name in defaults} for sampling in settings]
    for name, default in defaults.items():
        if isinstance(default, tuple):
            continue
        merged = {}
        for group in groups:  # those that differ in this field alone become one
            alike = merged.setdefault(tuple(group[other] for other in defaults if other != name), group | {name: ()})
            alike[name] = (*alike[name], *group[name])
        groups = [*merged.values()]
    return [
        " ".join(
            " ".join([f"--{name.replace('_', '-')}", *map(format_value, values)])
            for name, values in group.items()
            if name == "weight" or values != (defaults[name],)
        )
        for group in groups
    ]


def format_value(value) -> str:
    """A value of a field as the command line takes it."""
    if isinstance(value, tuple):
        return " ".join(map(format_value, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
