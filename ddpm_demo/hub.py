"""To and from the Hugging Face Hub: fetch a checkpoint."""

import re
from pathlib import Path

from ddpm_demo.errors import UserError

PARTS = ["unet/*.json", "unet/*.safetensors", "scheduler/*.json", "*.json", "*.md", "*.png", "*.safetensors"]


def pull(source: str) -> Path:
    """The local folder of Hub repository ``user/name`` or ``user/name@revision``, from the cache where possible.

    UserError if ``source`` has not that form, or the repository cannot be had.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+(@[\w./-]+)?", source) or source.startswith(".") or Path(source).exists():
        raise UserError(
            f"{source} is neither a checkpoint folder nor a Hub repository of the form user/name[@revision]"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RepositoryNotFoundError

    name, _, revision = source.partition("@")
    try:
        return Path(snapshot_download(name, revision=revision or None, allow_patterns=PARTS))
    except RepositoryNotFoundError as error:
        raise UserError(f"the Hub has no repository {name} that you may read, and there is no such folder") from error
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise UserError(
            f"{source} is no folder here, and the Hub could not deliver it ({type(error).__name__}): check the name "
            "and the connection"
        ) from error
