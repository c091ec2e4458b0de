"""Fetches the ONNX Runtime for browsers (onnxruntime-web, MIT license) from the npm registry, once for each version."""

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import urllib.request
from http.client import HTTPException
from pathlib import Path

from ddpm_demo.errors import UserError
from ddpm_demo.files import cache_folder, write_atomically

VERSION = "1.30.0"
# The checksum of the package, as the registry states it:  npm view onnxruntime-web@1.30.0 dist.integrity
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="
REGISTRY = "https://registry.npmjs.org"
SCRIPT, WASM = "onnxruntime.js", "onnxruntime.wasm.gz"
MEMBERS = {SCRIPT: "package/dist/ort.wasm.bundle.min.mjs", WASM: "package/dist/ort-wasm-simd-threaded.wasm"}
SECONDS = 60  # without an answer of the registry


def fetch_runtime() -> Path:
    """Return the folder in the user's cache that contains ``SCRIPT`` and ``WASM``, gzipped. Download them if necessary.

    Raises UserError if the registry cannot be reached, or if the package does not have the expected checksum.
    """
    folder = cache_folder() / f"onnxruntime-web-{VERSION}"
    if all((folder / name).is_file() for name in MEMBERS):
        return folder
    package = download_package()
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(package)) as archive:
        for name, member in MEMBERS.items():
            content = archive.extractfile(member).read()
            write_atomically(folder / name, compress(content) if name.endswith(".gz") else content)
    return folder


def compress(content: bytes) -> bytes:
    """Return the content as a gzipped file, since a plain file server does not compress."""
    return gzip.compress(content, 9, mtime=0)


def download_package() -> bytes:
    """Return the package of the pinned version, with its checksum verified."""
    address = f"{find_registry()}/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as response:
            package = response.read()
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            f"{address} cannot be downloaded ({error}): connect to the internet, or set NPM_CONFIG_REGISTRY to the "
            "address of a npm registry that this machine can reach"
        ) from error
    received = "sha512-" + base64.b64encode(hashlib.sha512(package).digest()).decode()
    if received != INTEGRITY:
        raise UserError(
            f"{address} has the checksum {received}, but {INTEGRITY} is expected: the download was changed or damaged; "
            "try again, or use another registry"
        )
    return package


def find_registry() -> str:
    """Return the address of the npm registry: that of the settings of npm, if there are any, or the public one."""
    address = os.environ.get("NPM_CONFIG_REGISTRY")
    npm = shutil.which("npm")
    if not address and npm:
        done = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True)
        address = done.stdout.strip()
    return (address or REGISTRY).rstrip("/")
