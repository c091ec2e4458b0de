"""Publishes the demo as a Hugging Face Space: the app, from the working tree, or the folder of the browser's demo."""

import shutil
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from ddpm_demo.errors import UserError
from ddpm_demo.files import LARGEST_FILE
from ddpm_demo.hub.client import check_publishable, explain_errors, is_repository, retry

ROOT = Path(__file__).parents[2]
NEEDED = ("app.py", "requirements.txt", "README.md", "LICENSE", "ddpm_demo", "checkpoints", "docs")
VARIABLE = "DDPM_CHECKPOINT"  # of the Space: the checkpoint that app.py loads first
STATIC_CARD = """A small diffusion model turns noise into an image, step by step. The trained network runs in your browser, so
nothing is sent to a server. The folder was written by `python -m ddpm_demo.web`.
"""
HARDWARE = ("cpu-basic", "zero-a10g")  # free, with two CPU cores; ZeroGPU


def stage_space(
    folder: Path, name: str, endpoint: str = "https://huggingface.co", checkpoint: str | None = None
) -> list[Path]:
    """Copy the files of the Space to an empty folder, and write its Gradio version and its model into the README.

    ``checkpoint`` is a Hub repository ``user/name[@revision]``, or None for the shipped checkpoint, which is always
    copied. Return the files, relative to the folder. Raises UserError for a file that is too large.
    """
    from huggingface_hub import RepoCard

    hidden = shutil.ignore_patterns("__pycache__", ".*", "state", "snapshots")
    for part in NEEDED:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=hidden)
        else:
            shutil.copyfile(ROOT / part, folder / part)
    card = RepoCard.load(folder / "README.md")
    card.data["sdk_version"] = version("gradio")
    card.data["thumbnail"] = f"{endpoint}/spaces/{name}/resolve/main/docs/app.png"
    if checkpoint:
        card.data["models"] = [checkpoint.partition("@")[0]]
    card.save(folder / "README.md")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for file in files:
        size = (folder / file).stat().st_size
        if size > LARGEST_FILE:
            raise UserError(f"{file} has {size / 2**20:.0f} MiB; a file of a Space may have {LARGEST_FILE / 2**20:.0f}")
    return files


def publish(name: str, hardware: str | None = None, private: bool = False, checkpoint: str | None = None) -> str:
    """Create or update the Space ``user/name`` from the working tree, on ``hardware`` if given; return its address.

    The Space first loads ``checkpoint``, a Hub repository ``user/name[@revision]``, or the shipped checkpoint if it is
    None, whatever it loaded before. Obsolete files are deleted from the Space. Raises UserError if the Hub rejects the upload.
    """
    check_publishable(name)
    if checkpoint and (Path(checkpoint).exists() or not is_repository(checkpoint.partition("@")[0])):
        raise UserError(f"checkpoint is {checkpoint!r}; a Space needs one on the Hub, user/name or user/name@revision")
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as place, explain_errors(f"to publish the Space {name}", name):
        stage_space(Path(place), name, api.endpoint, checkpoint)
        retry(lambda: api.create_repo(name, repo_type="space", space_sdk="gradio", private=private, exist_ok=True))
        retry(lambda: api.upload_folder(
            repo_id=name, repo_type="space", folder_path=place, delete_patterns="*", commit_message="Update the demo"
        ))  # fmt: skip
        if checkpoint:
            retry(lambda: api.add_space_variable(name, VARIABLE, checkpoint))
        elif VARIABLE in retry(lambda: api.get_space_variables(name)):
            retry(lambda: api.delete_space_variable(name, VARIABLE))
        if hardware:
            retry(lambda: api.request_space_hardware(name, hardware))
    return f"{api.endpoint}/spaces/{name}"


def publish_static(name: str, folder: Path | None = None, private: bool = False, checkpoint: str | None = None) -> str:
    """Create or update the static Space ``user/name``, which needs no server; return its address.

    Its files are those of ``folder``, which ``python -m ddpm_demo.web`` has written. Without a folder, this command is run
    with ``checkpoint``, or with the shipped one. Obsolete files are deleted from the Space. Raises UserError if the demo
    cannot be built, or if the Hub rejects the upload.
    """
    check_publishable(name)
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as temporary, explain_errors(f"to publish the Space {name}", name):
        staged = Path(temporary) / "demo"
        if folder:
            stage_static(folder, staged)
        else:
            build_static(staged, checkpoint)
        write_static_card(staged / "README.md")
        retry(lambda: api.create_repo(name, repo_type="space", space_sdk="static", private=private, exist_ok=True))
        retry(lambda: api.upload_folder(
            repo_id=name, repo_type="space", folder_path=staged, delete_patterns="*", commit_message="Update the demo"
        ))  # fmt: skip
    return f"{api.endpoint}/spaces/{name}"


def stage_static(folder: Path, staged: Path) -> None:
    """Copy the folder of the browser's demo. Raises UserError if it is another folder."""
    if not all((folder / file).is_file() for file in ("index.html", "demo.json")):
        raise UserError(
            f"{folder} does not contain the browser's demo: write it with  python -m ddpm_demo.web {folder}"
        )
    shutil.copytree(folder, staged)


def build_static(staged: Path, checkpoint: str | None) -> None:
    """Write the browser's demo by its own command, since this package may not import the one that builds it."""
    chosen = ["--checkpoint", checkpoint] if checkpoint else []
    command = [sys.executable, "-m", "ddpm_demo.web", str(staged), *chosen]
    if subprocess.run(command, cwd=ROOT).returncode:
        raise UserError("the browser's demo could not be built, for the reason above")


def write_static_card(path: Path) -> None:
    """Write the card of the static Space, with the title and the tags of the README."""
    from huggingface_hub import RepoCard

    card = RepoCard.load(ROOT / "README.md")
    for key in ("sdk_version", "python_version"):
        card.data.pop(key)
    card.data["sdk"], card.data["app_file"], card.text = "static", "index.html", STATIC_CARD
    card.save(path)
