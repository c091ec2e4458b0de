"""Atomic writing of files, locking, the hash of a model, and the folders of the cache and of the shipped checkpoints."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path

from filelock import FileLock

PARTIAL, COMPLETE, OLD = ".partial", ".complete", ".old"  # temporary folders of ``replace_together``
SHIPPED = Path(__file__).resolve().parents[1] / "checkpoints"  # the folder of the shipped checkpoints
# The files of a checkpoint with figures of one model, and the file that holds the hash of this model.
FIGURES = {
    "metrics.json": "metrics.json",
    "nearest.png": "metrics.json",
    "beside.png": "metrics.json",
    "speed.json": "speed.json",
}
LARGEST_FILE = 10 * 2**20  # bytes; a larger file of a Space would need Git LFS
MARK = "ddpm_demo_model"  # the entry of a model card's metadata with the hash of its model
RECORDS = ("training", "sampling")  # the entries of demo.json that decide no sample, except ``time`` and ``classes``


def write_atomically(path: Path, content: bytes) -> None:
    """Replace the file at ``path`` by ``content``, which is flushed to the disk before the old file is replaced."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(partial, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


@contextmanager
def replace_together(folder: Path) -> Iterator[Path]:
    """Yield an empty folder. Afterwards, its entries replace those of the same names in ``folder``, all together.

    The new entries become valid at one moment, when the yielded folder is renamed to ``.complete``. From then on,
    ``find_newest`` finds them, although they are moved to their places one by one. An interruption at any time
    therefore leaves either all old entries or all new ones.
    """
    move_complete(folder)  # in case that an earlier replacement was interrupted
    partial = folder / PARTIAL
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    for path in filter(Path.is_file, partial.rglob("*")):
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    partial.replace(folder / COMPLETE)
    move_complete(folder)


def move_complete(folder: Path) -> None:
    """Move the entries of ``.complete`` to their places in ``folder``. Old entries are removed only afterwards."""
    complete, old = folder / COMPLETE, folder / OLD
    shutil.rmtree(old, ignore_errors=True)
    if not complete.is_dir():
        return
    old.mkdir()
    for entry in sorted(complete.iterdir()):
        place = folder / entry.name
        if place.exists():
            place.replace(old / entry.name)
        entry.replace(place)
    complete.rmdir()
    shutil.rmtree(old)


def find_newest(folder: Path, name: str) -> Path:
    """Return the path of an entry of ``folder``, or of its newer version if its replacement was interrupted."""
    newer = folder / COMPLETE / name
    return newer if newer.exists() else folder / name


def find_files(folder: Path, pattern: str) -> Iterator[tuple[Path, Path]]:
    """Yield (path relative to ``folder``, path) of the newest files that match a pattern ``entry`` or ``entry/pattern``.

    The first part of the pattern is the plain name of an entry of the folder.
    """
    entry, _, rest = pattern.partition("/")
    newest = find_newest(folder, entry)
    for path in sorted(newest.glob(rest)) if rest else [newest]:
        if path.is_file():
            yield entry / path.relative_to(newest), path


def cache_folder() -> Path:
    """Return the folder of files that can be made or downloaded again; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm-demo"


def lock(path: Path) -> AbstractContextManager:
    """Return a lock for changing the file at ``path``; only one process holds it, the others wait."""
    return FileLock(path.with_name(f".{path.name}.lock"))


def read_json(path: Path) -> dict:
    """Read a JSON file. Return an empty object if the file does not exist."""
    return json.loads(path.read_text()) if path.is_file() else {}


def hash_file(path: Path) -> str | None:
    """Return the sha256 of a file in hexadecimal, None if the file does not exist."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def identify_model(folder: Path) -> str:
    """Return a sha256, in hexadecimal, of all files of a checkpoint that decide its samples.

    These are the network, the schedule, the autoencoder if latents are diffused, and ``demo.json`` without ``sampling``,
    and of its ``training`` only ``time`` and ``classes``. The version of diffusers and the model card are not part of it,
    and neither is the noise-aware classifier, because few samples use it.
    """
    about = json.loads(find_newest(folder, "demo.json").read_text())
    training = about.get("training") or {}
    # An entry that is missing in older checkpoints and one that is null mean the same.
    used = {name: value for name, value in about.items() if name not in RECORDS and value is not None}
    used |= {"condition": about.get("condition", "add")}
    used |= {"time": training.get("time", "discrete"), "classes": training.get("classes", [])}
    parts = ("scheduler", "unet") if about["codec"] else ("scheduler", "unet", "vae")
    found = hashlib.sha256(json.dumps(used, sort_keys=True).encode())
    for name, path in chain.from_iterable(find_files(folder, f"{part}/*") for part in parts):
        if path.suffix == ".safetensors":
            content = path.read_bytes()
        elif path.suffix == ".json":
            values = json.loads(path.read_text())
            content = json.dumps(values | {"_diffusers_version": None}, sort_keys=True).encode()
        else:
            continue
        found.update(f"\n{name.as_posix()} {len(content)}\n".encode() + content)
    return found.hexdigest()


def list_foreign_figures(folder: Path) -> list[str]:
    """Return the names of the ``FIGURES`` in a checkpoint folder that belong to another model than the one in it."""
    reports = {name: read_json(folder / name) for name in {*FIGURES.values()}}
    model = identify_model(folder) if any(reports.values()) else None
    foreign = {name for name, report in reports.items() if report and report.get("model") != model}
    return [name for name, report in FIGURES.items() if report in foreign and (folder / name).is_file()]
