"""The demo as a Hugging Face Space: the files it needs, and nothing else, published from the working tree."""

import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

from ddpm_demo.errors import UserError
from ddpm_demo.hub import in_words, publishable, repeated

ROOT = Path(__file__).parent.parent
NEEDED = ("app.py", "requirements.txt", "README.md", "LICENSE", "ddpm_demo", "checkpoints", "docs")
LARGEST = 10 * 2**20  # bytes: what the Hub takes without Git LFS
HARDWARE = ("cpu-basic", "zero-a10g")  # two CPU cores, free; ZeroGPU


def stage(folder: Path, name: str, endpoint: str = "https://huggingface.co") -> list[Path]:
    """Copy what the Space needs into an empty folder; its README names the Gradio it was tested with.

    Returns the files, relative. UserError for one that is too large.
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
    card.save(folder / "README.md")
    files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    for file in files:
        size = (folder / file).stat().st_size
        if size > LARGEST:
            raise UserError(f"{file} has {size / 2**20:.0f} MiB; a file of a Space may have {LARGEST / 2**20:.0f}")
    return files


def publish(name: str, hardware: str | None = None, private: bool = False) -> str:
    """Create or update the Space ``user/name`` from the working tree, on ``hardware`` if given; returns its address.

    Files that were there and are no longer needed go. UserError where the Hub refuses.
    """
    publishable(name)
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as place, in_words(f"to publish the Space {name}", name):
        stage(Path(place), name, api.endpoint)
        repeated(lambda: api.create_repo(name, repo_type="space", space_sdk="gradio", private=private, exist_ok=True))
        repeated(lambda: api.upload_folder(
            repo_id=name, repo_type="space", folder_path=place, delete_patterns="*", commit_message="Update the demo"
        ))  # fmt: skip
        if hardware:
            repeated(lambda: api.request_space_hardware(name, hardware))
    return f"{api.endpoint}/spaces/{name}"
