"""Every dataset as one uint8 tensor of images, their labels and the names of the labels."""

import hashlib
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor
from tqdm import tqdm

from ddpm_demo.errors import UserError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
HOLD_OUT_EVERY = 20  # images of a class, for a folder without a test split


@dataclass(frozen=True)
class Data:
    """``images`` (N, C, H, W) uint8, ``labels`` (N,) int64 into ``label_names``."""

    images: Tensor
    labels: Tensor
    label_names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, indices: Tensor) -> tuple[Tensor, Tensor]:
        """Images (B, C, H, W) float32 in [-1, 1] and labels (B,)."""
        return self.images[indices].float() / 127.5 - 1, self.labels[indices]

    def one_of_each(self) -> Tensor:
        """The first image of every class, (K, C, H, W) float32 in [-1, 1]; without classes, the first ten images."""
        firsts = [(self.labels == k).nonzero()[:1].flatten() for k in range(len(self.label_names))]
        return self.batch(torch.cat(firsts) if firsts else torch.arange(min(10, len(self))))[0]

    def to(self, device: torch.device) -> "Data":
        """The same on another device."""
        return Data(self.images.to(device), self.labels.to(device), self.label_names)


def mirror_at_random(images: Tensor) -> Tensor:
    """Images (N, C, H, W), of which about half, chosen at random, are mirrored left to right."""
    return torch.where(torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5, images.flip(-1), images)


def load(
    name: str,
    data_dir: str | Path = "data",
    split: str = "train",
    *,
    classes: Sequence[str] = (),
    image_size: int | None = None,
) -> Data:
    """The ``train`` or ``test`` split of mnist, fashion-mnist, cifar10, oxford-pets or folder.

    The named sets are torchvision's and are downloaded to ``data_dir`` unless they are there. ``folder`` reads
    ``data_dir/<class>/*.png|jpg|webp`` and holds out every 20th image of a class as its test split, or reads
    ``data_dir/train/<class>`` and ``data_dir/test/<class>`` where there are these two; ``cifar10`` takes that, too.
    ``classes`` keeps a subset, by name. ``image_size`` resizes the shorter side and centre-crops. UserError says what is wrong.
    """
    if name not in LOADERS:
        raise UserError(f"dataset is {name!r}; it must be one of {', '.join(LOADERS)}")
    return LOADERS[name](Path(data_dir), split == "train", tuple(classes), image_size)


def load_splits(
    name: str, data_dir: str | Path = "data", *, classes: Sequence[str] = (), image_size: int | None = None
) -> tuple[Data, Data]:
    """The training images and the test images of a dataset, as ``load`` reads them."""
    train, test = (load(name, data_dir, split, classes=classes, image_size=image_size) for split in ("train", "test"))
    return train, test


def load_arrays(kind: str) -> Callable[..., Data]:
    """A loader for the torchvision sets that are arrays already: MNIST, FashionMNIST, CIFAR10."""

    def load_split(root: Path, train: bool, classes: tuple[str, ...], image_size: int | None) -> Data:
        if has_splits(root):
            return load_folder(root, train, classes, image_size)
        found = load_torchvision(kind, root, train=train)
        images = torch.as_tensor(found.data)
        images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
        names = [name.split(" - ")[0] for name in found.classes]  # MNIST's own are "0 - zero", "1 - one", ...
        data = keep_classes(images.contiguous(), torch.as_tensor(found.targets), names, classes)
        if image_size in (None, images.shape[-1]):
            return data
        from torchvision.transforms.v2.functional import resize

        return Data(resize(data.images, [image_size, image_size], antialias=True), data.labels, data.label_names)

    return load_split


def load_pets(root: Path, train: bool, classes: tuple[str, ...], image_size: int | None) -> Data:
    """Oxford-IIIT Pet (Parkhi et al. 2012): 37 breeds, here usually a few of them."""
    found = load_torchvision("OxfordIIITPet", root, split="trainval" if train else "test")
    paths, labels = [Path(p) for p in found._images], torch.tensor(found._labels)
    names = [name.replace(" ", "_") for name in found.classes]
    wanted = find_classes(names, tuple(c.replace(" ", "_") for c in classes))
    kept = [(path, wanted.index(label)) for path, label in zip(paths, labels.tolist()) if label in wanted]
    return decode(kept, [names[i] for i in wanted], image_size or 64, "RGB")


def load_folder(root: Path, train: bool, classes: tuple[str, ...], image_size: int | None) -> Data:
    """A folder with one folder of images for each class; gray if all of some sixteen images are gray, else in colour."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: point --data-dir at a folder that holds one folder of images a class")
    split = has_splits(root)
    root = root / ("train" if train else "test") if split else root
    paths = list_images(root, classes)
    files = [
        (path, label)
        for label, of_class in enumerate(paths.values())
        for number, path in enumerate(of_class)
        if split or (number % HOLD_OUT_EVERY == HOLD_OUT_EVERY - 1) != train
    ]
    probe = [open_image(path).mode for path, _ in files[:: max(1, len(files) // 16)]]
    return decode(files, list(paths), image_size or 32, "L" if set(probe) <= {"L", "1", "I;16"} else "RGB")


def has_splits(root: Path) -> bool:
    """Whether a folder holds the folders ``train`` and ``test`` instead of classes."""
    return (root / "train").is_dir() and (root / "test").is_dir()


LOADERS = {
    "mnist": load_arrays("MNIST"),
    "fashion-mnist": load_arrays("FashionMNIST"),
    "cifar10": load_arrays("CIFAR10"),
    "oxford-pets": load_pets,
    "folder": load_folder,
}


def load_torchvision(kind: str, root: Path, **split):
    """The torchvision dataset, downloaded if it is not in ``root``; UserError if neither is possible."""
    from torchvision import datasets

    try:
        return getattr(datasets, kind)(str(root), download=True, **split)
    except Exception as error:  # torchvision raises whatever the network, the archive or the disk raised
        raise UserError(
            f"{kind} is not in {root} and could not be downloaded ({type(error).__name__}: {error}). If you have it "
            f"elsewhere, pass --data-dir with the folder that torchvision's {kind} was unpacked into"
        ) from error


def find_classes(names: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """The indices of the wanted names in ``names``, of all of them if none is wanted; the case of letters is ignored."""
    lower = [name.lower() for name in names]
    for name in wanted:
        if name.lower() not in lower:
            raise UserError(f"there is no class {name!r}; the classes are {', '.join(names)}")
    return [lower.index(name.lower()) for name in wanted] or list(range(len(names)))


def keep_classes(images: Tensor, labels: Tensor, names: Sequence[str], wanted: Sequence[str]) -> Data:
    """Only the wanted classes, renumbered from 0 in the order asked for."""
    chosen = find_classes(names, wanted)
    renumber = torch.full((len(names),), -1)
    renumber[chosen] = torch.arange(len(chosen))
    labels = renumber[labels]
    keep = labels >= 0
    return Data(images[keep], labels[keep], tuple(names[i] for i in chosen))


def list_images(root: Path, wanted: Sequence[str]) -> dict[str, list[Path]]:
    """The image files of each wanted class (all if none is named), sorted, in the order of the wanted classes.

    Folders whose name begins with a dot are no classes. UserError for a class that is not there or is empty.
    """
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(root), is_valid_file=is_image, allow_empty=True)
        names = [name for name in found.classes if not name.startswith(".")]
    except FileNotFoundError:  # there are no folders at all
        names = []
    if not names:
        raise UserError(f"{root} holds no folders: put the images of each class into {root}/<class>/")
    paths = {names[i]: [] for i in find_classes(names, wanted)}
    for path, label in found.samples:
        if found.classes[label] in paths:
            paths[found.classes[label]].append(Path(path))
    for name, of_class in paths.items():
        if not of_class:
            raise UserError(f"class folder {root / name} holds no {', '.join(SUFFIXES)}: fill it or remove it")
        of_class.sort()
    return paths


def is_image(path: str) -> bool:
    """Whether a file has the suffix of an image that is read."""
    return Path(path).suffix.lower() in SUFFIXES


def open_image(path: Path) -> Image.Image:
    """A decoded, upright image; UserError that names the file if it cannot be read."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} cannot be read as an image ({error}): repair it or remove it") from error


def decode(files: list[tuple[Path, int]], names: Sequence[str], size: int, mode: str) -> Data:
    """Images with their shorter side resized to ``size``, centre-cropped and stacked; decoded once, then cached."""
    from safetensors.torch import load_file, save_file

    labels = torch.tensor([label for _, label in files])
    key = hashlib.sha256(f"{size} {mode}".encode())
    for path, label in files:
        stat = path.stat()
        key.update(f"{path.resolve()} {label} {stat.st_size} {stat.st_mtime_ns}".encode())
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm-demo"
    cached = cache / f"{key.hexdigest()[:32]}.safetensors"
    if cached.exists():
        return Data(load_file(cached)["images"], labels, tuple(names))

    def read(path: Path) -> Tensor:
        image = ImageOps.fit(open_image(path).convert(mode), (size, size), Image.Resampling.BICUBIC)
        return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size, size, -1).permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        decoded = pool.map(read, [path for path, _ in files])
        images = torch.stack(list(tqdm(decoded, "decoding images", len(files), unit="image")))
    cache.mkdir(parents=True, exist_ok=True)
    partial = cached.with_suffix(f".{os.getpid()}.tmp")
    save_file({"images": images}, partial)
    partial.replace(cached)
    return Data(images, labels, tuple(names))
