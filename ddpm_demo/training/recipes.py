"""The defaults of ``train.py`` for each dataset: every number that was tuned, in one table."""

from dataclasses import dataclass, replace

from ddpm_demo.errors import check_one_of


@dataclass(frozen=True)
class Recipe:
    """How one dataset is trained by default. A field name is that of ``TrainingConfiguration``."""

    image_size: int
    widths: tuple[int, ...]
    patch: int = 2
    layers: int = 2
    batch_size: int = 64
    optimizer: str = "adamw"
    lr: float = 1.5e-3
    ema_decay: tuple[float, ...] = (0.9995,)  # an upper limit: a short training averages over about its last tenth
    dropout: float = 0.0
    flip: bool = False
    minutes: float = 60.0


RECIPES = {
    "mnist": Recipe(28, (48, 96), layers=1, optimizer="muon", lr=2e-3),
    "fashion-mnist": Recipe(28, (48, 96), layers=1, optimizer="muon", lr=2e-3, flip=True),
    "cifar10": Recipe(32, (64, 128, 128), layers=1, optimizer="muon", lr=3e-3, ema_decay=(0.999,), flip=True),
    "oxford-pets": Recipe(64, (64, 128, 224), batch_size=32, lr=5e-4, dropout=0.1, flip=True, minutes=240),
    "folder": Recipe(32, (64, 128), lr=1e-3, dropout=0.1, flip=True),
}
# Within a few minutes on a CPU, a smaller network is better, since it sees more images.
SMALL = {"widths": (32, 64), "layers": 1, "batch_size": 32, "optimizer": "muon", "lr": 4e-3, "ema_decay": (0.998,)}
SHORT_MINUTES, SHORT_SIZE = 10.0, 32
LATENT = {
    "widths": (96, 112),
    "patch": 1,
    "layers": 1,
    "batch_size": 64,
    "optimizer": "adamw",
    "lr": 1.5e-3,
    "ema_decay": (0.999,),
}
DISTILLATION = {
    "minutes": 60.0,
    "batch_size": 64,
    "optimizer": "muon",
    "lr": 2e-3,
    "anneal": 1.0,
    "ema_decay": (0.999,),
    "mixed_precision": "auto",
}
GPU_SPEED = 4  # on a GPU, a default budget in minutes is divided by this


def recipe_for(
    dataset: str, minutes: float | None, device: str, latent: bool = False, image_size: int | None = None
) -> Recipe:
    """The recipe of a dataset for a budget in minutes (None: its default, shorter on a GPU) on a type of device.

    ``latent`` asks for the recipe for an autoencoder's latents: a wider network, since there are fewer positions.
    ``image_size`` is in pixels, None for that of the dataset.
    UserError for an unknown dataset.
    """
    check_one_of("dataset", dataset, RECIPES)
    recipe = replace(RECIPES[dataset], **LATENT) if latent else RECIPES[dataset]
    if device != "cpu":
        return replace(recipe, minutes=minutes or recipe.minutes / GPU_SPEED)
    if minutes and minutes <= SHORT_MINUTES and (image_size or recipe.image_size) <= SHORT_SIZE and not latent:
        recipe = replace(recipe, **SMALL)
    return replace(recipe, minutes=minutes or recipe.minutes)
