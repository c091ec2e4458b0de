"""Every dataset as one uint8 tensor of images, their labels and the names of the labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ddpm_demo.data.image_files import ImageFile, load_files
from ddpm_demo.errors import UserError, check_one_of

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


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


def add_mirrored(data: Data) -> Data:
    """The images of a dataset, followed by all of them mirrored left to right: what a training with flips has seen."""
    images = torch.cat([data.images, data.images.flip(-1)])
    return Data(images, data.labels.repeat(2), data.label_names)


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
    ``data_dir/train/<class>`` and ``data_dir/test/<class>`` where there are these two; ``mnist``, ``fashion-mnist`` and
    ``cifar10`` are read from such folders, too. The last training image of a class without test images is its test image as
    well. Files that cannot be read are left out. ``classes`` keeps a subset, by name. ``image_size`` resizes the shorter
    side and centre-crops. UserError says what is wrong.
    """
    check_one_of("dataset", name, LOADERS)
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
    files = []
    for split, name in (("train", "trainval"), ("test", "test")):
        found = load_torchvision("OxfordIIITPet", root, split=name)
        names = [name.replace(" ", "_") for name in found.classes]
        wanted = find_classes(names, tuple(c.replace(" ", "_") for c in classes))
        labelled = zip(map(Path, found._images), found._labels)
        files += [ImageFile(path, wanted.index(label), split) for path, label in labelled if label in wanted]
    names = tuple(names[i] for i in wanted)
    return Data(*load_files(files, names, image_size or 64, train), names)


def load_folder(root: Path, train: bool, classes: tuple[str, ...], image_size: int | None) -> Data:
    """A folder with one folder of images for each class, or with ``train`` and ``test``, which hold such folders."""
    if not root.is_dir():
        raise UserError(f"{root} is not a folder: point --data-dir at a folder that holds one folder of images a class")
    if has_splits(root):
        of_class = {split: list_images(root / split) for split in ("train", "test")}
        unknown = [name for name in of_class["test"] if name not in of_class["train"]]
        if unknown and not classes:
            raise UserError(
                f"{root / 'test'} holds the class {unknown[0]!r}, but {root / 'train'} holds only "
                f"{', '.join(of_class['train'])}: rename it, remove it, or choose some with --classes"
            )
    else:
        of_class = {None: list_images(root)}
    known = list(next(iter(of_class.values())))
    names = tuple(known[i] for i in find_classes(known, classes))
    files = []
    for split, paths in of_class.items():
        for label, name in enumerate(names):
            if name in paths and not paths[name]:
                raise UserError(
                    f"class folder {root / (split or '') / name} holds no {', '.join(SUFFIXES)}: fill it or remove it"
                )
            files += [ImageFile(path, label, split) for path in paths.get(name, ())]
    return Data(*load_files(files, names, image_size or 32, train), names)


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


def list_images(root: Path) -> dict[str, list[Path]]:
    """The image files of each class, sorted. Folders whose name begins with a dot are no classes.

    UserError if there are no classes.
    """
    from torchvision.datasets import ImageFolder

    try:
        found = ImageFolder(str(root), is_valid_file=is_image, allow_empty=True)
        names = [name for name in found.classes if not name.startswith(".")]
    except FileNotFoundError:  # there are no folders at all
        names = []
    if not names:
        raise UserError(f"{root} holds no folders: put the images of each class into {root}/<class>/")
    paths = {name: [] for name in names}
    for path, label in found.samples:
        if found.classes[label] in paths:
            paths[found.classes[label]].append(Path(path))
    return {name: sorted(of_class) for name, of_class in paths.items()}


def is_image(path: str) -> bool:
    """Whether a file has the suffix of an image that is read."""
    return Path(path).suffix.lower() in SUFFIXES
