"""Atomic writing of files: a file is replaced as a whole or not at all. The folder of the cache."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PARTIAL, COMPLETE, OLD = ".partial", ".complete", ".old"  # temporary folders of ``replace_together``


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


def cache_folder() -> Path:
    """Return the folder of files that can be made or downloaded again; it may not exist yet."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ddpm-demo"
