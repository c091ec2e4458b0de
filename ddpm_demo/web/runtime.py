"""Fetches packages of the npm registry that the page needs, once for each version.

These are ONNX Runtime for browsers (onnxruntime-web) and a writer of GIF files (gifenc), both under the MIT license.
"""

import base64
import gzip
import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import urllib.request
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from ddpm_demo.errors import UserError
from ddpm_demo.files import cache_folder, write_atomically

REGISTRY = "https://registry.npmjs.org"
SCRIPT, WASM, GIF = "onnxruntime.js", "onnxruntime.wasm.gz", "gifenc.js"
SECONDS = 60  # without an answer of the registry


@dataclass(frozen=True)
class Package:
    """A package of the npm registry.

    ``integrity`` is its checksum, as the registry states it:  npm view NAME@VERSION dist.integrity. ``members`` are the files
    that the page needs, by the name that they have there; a name that ends in .gz is that of the gzipped file.
    """

    name: str
    version: str
    integrity: str
    members: dict[str, str]


RUNTIME = Package(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
    {SCRIPT: "package/dist/ort.wasm.bundle.min.mjs", WASM: "package/dist/ort-wasm-simd-threaded.wasm"},
)
WRITER = Package(
    "gifenc",
    "1.0.3",
    "sha512-xdr6AdrfGBcfzncONUOlXMBuc5wJDtOueE3c5rdG0oNgtINLD+f2iFZltrBRZYzACRbKr+mSVU/x98zv2u3jmw==",
    {GIF: "package/dist/gifenc.esm.js"},
)


def fetch_files() -> dict[str, Path]:
    """Return the files of all packages by the name that they have in the page. Raises UserError as ``fetch_package`` does."""
    return {name: fetch_package(package) / name for package in (RUNTIME, WRITER) for name in package.members}


def fetch_package(package: Package) -> Path:
    """Return the folder in the user's cache that contains the members of a package. Download them if necessary.

    Raises UserError if the registry cannot be reached, or if the package does not have the expected checksum.
    """
    folder = cache_folder() / f"{package.name}-{package.version}"
    if all((folder / name).is_file() for name in package.members):
        return folder
    content = download_package(package)
    folder.mkdir(parents=True, exist_ok=True)
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        for name, member in package.members.items():
            part = archive.extractfile(member).read()
            write_atomically(folder / name, compress(part) if name.endswith(".gz") else part)
    return folder


def compress(content: bytes) -> bytes:
    """Return the content as a gzipped file, since a plain file server does not compress."""
    return gzip.compress(content, 9, mtime=0)


def download_package(package: Package) -> bytes:
    """Return the archive of a package, with its checksum verified."""
    address = f"{find_registry()}/{package.name}/-/{package.name}-{package.version}.tgz"
    try:
        with urllib.request.urlopen(address, timeout=SECONDS) as response:
            content = response.read()
    except (OSError, HTTPException, ValueError) as error:
        raise UserError(
            f"{address} cannot be downloaded ({error}): connect to the internet, or set NPM_CONFIG_REGISTRY to the "
            "address of a npm registry that this machine can reach"
        ) from error
    received = "sha512-" + base64.b64encode(hashlib.sha512(content).digest()).decode()
    if received != package.integrity:
        raise UserError(
            f"{address} has the checksum {received}, but {package.integrity} is expected: the download was changed or damaged; "
            "try again, or use another registry"
        )
    return content


def find_registry() -> str:
    """Return the address of the npm registry: that of the settings of npm, if there are any, or the public one."""
    address = os.environ.get("NPM_CONFIG_REGISTRY")
    npm = shutil.which("npm")
    if not address and npm:
        done = subprocess.run([npm, "config", "get", "registry"], capture_output=True, text=True)
        address = done.stdout.strip()
    return (address or REGISTRY).rstrip("/")
