"""Downloads and publishes checkpoints. Every error of the Hub becomes a UserError with a clear message."""

import errno
import json
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from ddpm_demo.errors import UserError
from ddpm_demo.files import MARK, find_files, find_newest, identify_model, list_foreign_figures

T = TypeVar("T")
NEEDED = (
    "demo.json",
    "unet/config.json",
    "unet/diffusion_pytorch_model.safetensors",
    "scheduler/scheduler_config.json",
)
# The files that are uploaded and downloaded. Training states, snapshots and pickles are never transferred.
PARTS = ["unet/*.json", "unet/*.safetensors", "vae/*.json", "vae/*.safetensors", "scheduler/*.json", "demo.json",
         "weak/demo.json", "weak/unet/*.json", "weak/unet/*.safetensors", "weak/scheduler/*.json",
         "model_index.json", "autoencoder.json", "reconstructions.png",
         "pipeline.py", "classifier.safetensors", "noisy_classifier.safetensors", "metrics.json",
         "metrics.jsonl", "speed.json", "peer.json", "README.md", "samples.png", "examples.png", "nearest.png",
         "beside.png", "denoising.webp", "samples/step-*.png"]  # fmt: skip
LOCAL_FOLDERS = ("checkpoints", "runs")  # the project's own; anybody could own these names on the Hub
WAITS = (1, 2, 4)  # seconds before each new attempt after a server error
PATIENCE = 60  # longest accepted wait for a rate limit, in seconds
LOGIN = "log in with  hf auth login  (a token with write access: https://huggingface.co/settings/tokens)"


def locate(source: str | Path) -> Path:
    """Return the folder of a checkpoint: the given folder if it exists, else that of a Hub repository (see ``pull``)."""
    return Path(source) if Path(source).is_dir() else pull(str(source))


def pull(source: str) -> Path:
    """Return the local folder of Hub repository ``user/name`` or ``user/name@revision``. Download it if necessary.

    An interrupted download resumes. Raises UserError if ``source`` does not have this form, if it begins with the name
    of a folder of the project, or if the repository cannot be downloaded.
    """
    name, _, revision = source.partition("@")
    if find_owner(name) in LOCAL_FOLDERS:
        raise UserError(
            f"there is no folder {source} in {Path.cwd()}, and a name that begins with {find_owner(name)}/ is never a "
            "Hub repository: pass the path of a checkpoint folder, or user/name"
        )
    if not is_repository(name) or Path(source).exists() or (revision and not re.fullmatch(r"[\w./-]+", revision)):
        raise UserError(
            f"{source} is neither a checkpoint folder nor a Hub repository of the form user/name[@revision]"
        )
    from huggingface_hub import snapshot_download

    with explain_errors(f"to fetch {source}", name):
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=PARTS))


def push(folder: Path, name: str, private: bool = False) -> str:
    """Publish a checkpoint as Hub repository ``user/name``, which is created if necessary; return its address.

    Figures that were measured on other weights are not published. Parts of an earlier checkpoint that this one does not have
    are deleted from the repository. Raises
    UserError if the folder is not a checkpoint, if its card is about other weights, or if the Hub rejects the upload.
    """
    for part in NEEDED:
        if not any(find_files(folder, part)):
            raise UserError(f"{folder} is not a checkpoint: {part} is missing")
    check_publishable(name)
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as place, explain_errors(f"to publish {name}", name):
        staged = stage_checkpoint(folder, Path(place) / folder.resolve().name)
        retry(lambda: api.create_repo(name, private=private, exist_ok=True))
        message = f"Upload {folder.resolve().name}"
        retry(lambda: api.upload_folder(
            repo_id=name, folder_path=staged, commit_message=message, delete_patterns=PARTS
        ))  # fmt: skip
    return f"{api.endpoint}/{name}"


def stage_checkpoint(folder: Path, place: Path) -> Path:
    """Copy the public files of a checkpoint to ``place`` and add a diffusers pipeline to them; return ``place``.

    Figures of other weights are left out. Raises UserError if the model card is about other weights.
    """
    about = json.loads(find_newest(folder, "demo.json").read_text())
    latent = not about["codec"]
    check_card(folder)
    foreign = list_foreign_figures(folder)
    if foreign:
        print(f"not published, because other weights were measured: {', '.join(foreign)}")
    for pattern in PARTS:
        if pattern in foreign or (pattern.startswith("vae/") and not latent):
            continue
        for part, path in find_files(folder, pattern):
            (place / part).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, place / part)
    index = {
        "_class_name": ["pipeline", "ClassConditionalPipeline"],
        "scheduler": ["diffusers", json.loads((place / "scheduler/scheduler_config.json").read_text())["_class_name"]],
        "unet": ["diffusers", json.loads((place / "unet/config.json").read_text())["_class_name"]],
        "vae": ["diffusers", "AutoencoderKL"] if latent else [None, None],
        "patch": about["codec"].get("patch", 1),
        "distilled": about.get("distilled"),
    }
    (place / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    shutil.copyfile(Path(__file__).with_name("pipeline.py"), place / "pipeline.py")
    return place


def check_card(folder: Path) -> None:
    """Raise UserError if the model card of a checkpoint is about other weights than those in its folder."""
    from huggingface_hub import ModelCard

    card = folder / "README.md"
    model = ModelCard.load(card).data.to_dict().get(MARK) if card.is_file() else None
    if model is not None and model != identify_model(folder):
        raise UserError(
            f"{card} is about other weights than those in {folder}: measure these, which writes the card, with  "
            f"python -m ddpm_demo.evaluation samples --checkpoint {folder}"
        )


def check_publishable(name: str) -> None:
    """Raise UserError unless name has the form ``user/name`` and the user is logged in."""
    if not is_repository(name):
        raise UserError(
            f"{name!r} is not the name of a Hub repository: it must be of the form user/name, where user is none of the "
            f"folders {', '.join(LOCAL_FOLDERS)}"
        )
    from huggingface_hub import get_token

    if not get_token():
        raise UserError(f"you must be logged in to publish {name}: {LOGIN}")


def is_repository(name: str) -> bool:
    """Return whether a name has the form ``user/name``, and does not begin like a folder of the project."""
    form = re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name)
    return bool(form) and ".." not in name and find_owner(name) not in LOCAL_FOLDERS


def find_owner(name: str) -> str:
    """Return the part of a name before its first slash."""
    return name.partition("/")[0]


def retry(call: Callable[[], T]) -> T:
    """Make a call, and repeat it after increasing waits if the Hub has a server error (status 500 and above)."""
    from huggingface_hub.errors import HfHubHTTPError

    for wait in (*WAITS, None):
        try:
            return call()
        except HfHubHTTPError as error:
            if wait is None or error.response.status_code < 500:
                raise
            print(f"the Hub answers {error.response.status_code}; trying again in {wait} s", file=sys.stderr)
            time.sleep(wait)


class TooLong(Exception):
    """The Hub requests a wait longer than PATIENCE. The message is the number of seconds."""


def refuse_long_waits(response) -> None:
    """Raise TooLong for a rate limit longer than PATIENCE, because the client of the Hub would sleep until its end."""
    if response.status_code != 429:
        return
    limit = re.search(r"\bt=(\d+)", response.headers.get("ratelimit", ""))
    seconds = limit[1] if limit else response.headers.get("retry-after", "0")
    if seconds.isdecimal() and int(seconds) > PATIENCE:
        raise TooLong(seconds)


@contextmanager
def explain_errors(purpose: str, name: str) -> Iterator[None]:
    """Raise UserError for any error of a Hub request. The message says what to do, and never contains the token."""
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import (
        HfHubHTTPError,
        LocalEntryNotFoundError,
        LocalTokenNotFoundError,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )
    from huggingface_hub.utils import get_session

    hooks = get_session().event_hooks
    if refuse_long_waits not in hooks["response"]:
        get_session().event_hooks = hooks | {"response": [*hooks["response"], refuse_long_waits]}
    try:
        yield
    except UserError:
        raise
    except LocalTokenNotFoundError as error:
        raise UserError(f"you must be logged in {purpose}: {LOGIN}") from error
    except TooLong as error:
        raise UserError(f"the Hub asks to wait {error} seconds {purpose}: then run the same command again") from error
    except RevisionNotFoundError as error:
        raise UserError(f"{name} has no such revision ({purpose}): see {constants.ENDPOINT}/{name}/commits") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if isinstance(error, RepositoryNotFoundError) and (status == 404 or get_token()):
            raise UserError(
                f"the Hub has no repository {name} that you may see, and there is no such folder"
            ) from error
        raise UserError(f"{ANSWERS.get(status, OTHER).format(status=status, name=name)} ({purpose})") from error
    except Exception as error:  # the transport errors of the client have no common base class
        if said := explain_local_error(error, purpose):
            raise UserError(said) from error
        kind = "is not in the cache" if isinstance(error, LocalEntryNotFoundError) else type(error).__name__
        raise UserError(
            f"the Hub could not be reached {purpose} ({kind}): check the connection, then run the same command again"
        ) from error


def explain_local_error(error: Exception, purpose: str) -> str | None:
    """Say what is wrong on this machine, if it is the disk or a file."""
    from huggingface_hub import constants

    if getattr(error, "errno", None) == errno.ENOSPC:
        return f"the disk is full: free some space below {constants.HF_HUB_CACHE} and {tempfile.gettempdir()}, then try again"
    if isinstance(error, OSError) and isinstance(error.filename, str):
        return f"{error.filename} cannot be used {purpose} ({error.strerror})"
    return None


OTHER = "the Hub answers {status} for {name}: if this persists, see https://status.huggingface.co"
ANSWERS = {
    401: f"the Hub does not accept your login: {LOGIN}",
    403: "your token may not do that with {name}: use a token with write access, or a repository of your own",
    404: "the Hub has no repository {name} that you may see, and there is no such folder",
    409: "somebody else is changing {name} at this moment: run the same command again",
    429: "the Hub has received too many requests from you: run the same command again in a few minutes",
}
