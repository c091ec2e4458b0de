"""Decodes the image files of a dataset: which of them are test images, whether all are gray, which cannot be read."""

import hashlib
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from ddpm_demo.data.decoding import crop_square, decode_picture, flatten
from ddpm_demo.errors import UserError
from ddpm_demo.files import cache_folder

HOLD_OUT_EVERY = 20  # images of a class, where there is no test split
MAX_PIXELS = 2 * Image.MAX_IMAGE_PIXELS  # of a file; Pillow opens none that is larger
NAMED = 3  # files that cannot be read, of which the message gives the reason


class ImageFile(NamedTuple):
    """An image file with the number of its class and its split, "train" or "test", or None where none is given."""

    path: Path
    label: int
    split: str | None


class Read(NamedTuple):
    """The images (C, H, W) uint8 of all files, in their order, or the reason why one cannot be read."""

    files: Sequence[ImageFile]
    images: list[Tensor | UserError]


def load_files(files: Sequence[ImageFile], names: Sequence[str], size: int, train: bool) -> tuple[Tensor, Tensor]:
    """Return the images (N, C, size, size) uint8 of a split, and their labels (N,); C is 1 if all images are gray, else 3.

    Their shorter side is resized to ``size``, and they are cropped to the middle. Both splits are decoded together, once,
    and then cached. What was decided is printed with the training split. UserError if a class has no image.
    """
    cached = locate_cache(files, size)
    if not cached.exists():
        write_cache(cached, *sort_out(read_files(files, size), names))
    with safe_open(cached, "pt") as content:
        split = "train" if train else "test"
        if train:
            print(content.metadata()["remarks"], file=sys.stderr)
        return content.get_tensor(split), content.get_tensor(f"{split}_labels")


def read_files(files: Sequence[ImageFile], size: int) -> Read:
    """Decode all files, in parallel."""

    def read(file: ImageFile) -> Tensor | UserError:
        try:
            image = flatten(decode_picture(file.path, str(file.path), max_pixels=MAX_PIXELS, max_bytes=None))
        except UserError as error:
            return error
        image = crop_square(image, size)
        return torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(size, size, -1).permute(2, 0, 1)

    with ThreadPoolExecutor() as pool:
        return Read(files, list(tqdm(pool.map(read, files), "decoding images", len(files), unit="image")))


def sort_out(read: Read, names: Sequence[str]) -> tuple[dict[str, Tensor], str]:
    """Return the images and the labels of both splits, and what was decided, in sentences."""
    good = [k for k, image in enumerate(read.images) if isinstance(image, Tensor)]
    of_class = [[] for _ in names]
    for k in good:
        of_class[read.files[k].label].append(k)
    chosen = {"train": [], "test": []}
    reused = []  # classes without a test image of their own
    for name, indices in zip(names, of_class):
        train, test = choose_test(read.files, indices)
        if not train:
            raise UserError(f"no training image of class {name!r} can be read; {name_unreadable(read)}")
        if not test:
            reused.append(name)
            test = train[-1:]
        chosen["train"] += train
        chosen["test"] += test
    gray = sum(len(read.images[k]) == 1 for k in good)
    channels = 1 if gray == len(good) else 3
    tensors = {}
    for split, indices in chosen.items():
        tensors[split] = torch.stack([read.images[k].expand(channels, -1, -1) for k in indices])
        tensors[f"{split}_labels"] = torch.tensor([read.files[k].label for k in indices])
    counts = {split: len(indices) for split, indices in chosen.items()}
    return tensors, describe(read, len(names), counts, gray, reused)


def choose_test(files: Sequence[ImageFile], indices: list[int]) -> tuple[list[int], list[int]]:
    """Divide the indices of a class's files into training and test images: as given, else every 20th is a test image."""
    held_out = set(indices[HOLD_OUT_EVERY - 1 :: HOLD_OUT_EVERY])
    tests = [files[k].split == "test" or (files[k].split is None and k in held_out) for k in indices]
    train, test = ([k for k, is_test in zip(indices, tests) if is_test == wanted] for wanted in (False, True))
    return train, test


def describe(read: Read, classes: int, counts: dict[str, int], gray: int, reused: list[str]) -> str:
    """Describe what was decided: a line each for the images, for classes without test images, for unreadable files."""
    total = sum(isinstance(image, Tensor) for image in read.images)
    kind = "all of them gray" if gray == total else f"in colour, {gray} of them gray" if gray else "all in colour"
    source = f"every {HOLD_OUT_EVERY}th of a class" if read.files[0].split is None else "as the folders say"
    twice = f" ({len(reused)} of them {'are' if len(reused) > 1 else 'is'} also trained on)" if reused else ""
    lines = [
        f"{total} images of {classes} class{'es' * (classes > 1)}, {kind}: {counts['train']} to train on, "
        f"{counts['test']} to test on{twice}, {source}"
    ]
    if reused:
        lines.append(
            f"note: without a test image of their own: {', '.join(reused)}; the last training image of each is its test "
            "image as well"
        )
    if total < len(read.files):
        lines.append(f"note: {name_unreadable(read)}; they are left out")
    return "\n".join(lines)


def name_unreadable(read: Read) -> str:
    """Name the first files that cannot be read, with the number of all of them."""
    errors = [str(image) for image in read.images if isinstance(image, UserError)]
    more = f", and {len(errors) - NAMED} more" if len(errors) > NAMED else ""
    return f"{len(errors)} of {len(read.files)} files cannot be used: {'; '.join(errors[:NAMED])}{more}"


def locate_cache(files: Sequence[ImageFile], size: int) -> Path:
    """Return the path of the decoded images: its name is a hash of the files' names, sizes and times, and of the settings."""
    key = hashlib.sha256(f"both splits {size} Lanczos".encode())
    for path, label, split in files:
        try:
            stat = path.stat()
        except OSError:  # a link that leads nowhere; that it cannot be read is said later
            stat = path.lstat()
        key.update(f"{os.path.abspath(path)} {label} {split} {stat.st_size} {stat.st_mtime_ns}".encode())
    return cache_folder() / f"{key.hexdigest()[:32]}.safetensors"


def write_cache(path: Path, tensors: dict[str, Tensor], remarks: str) -> None:
    """Write the decoded images of both splits, and what was decided."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.tmp")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial, {"remarks": remarks})
    partial.replace(path)
