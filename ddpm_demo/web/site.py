"""Writes the folder of the browser's demo: scripts, runtime, exported checkpoints, and the settings as JSON."""

import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, fields
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import ALWAYS, LAST_SEED, Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError
from ddpm_demo.models.checkpoint import load
from ddpm_demo.ui.components.player import PANELS
from ddpm_demo.ui.runs import DEFAULTS, MAX_COUNT, PRESETS, find_fixed, unflatten
from ddpm_demo.web.export import check_exportable, describe_model, export_network
from ddpm_demo.web.runtime import MEMBERS, WASM, compress, fetch_runtime

STATIC = Path(__file__).parent / "static"
DEMO = "demo.json"  # also marks a folder that this module has written
# The samplers that choose their own steps, and guidance by the gradient of a classifier, run only in the app.
SAMPLERS_HERE = {name: row for name, row in SAMPLERS.items() if not row.adaptive}
USED_HERE = {setting for row in SAMPLERS_HERE.values() for setting in row.uses}
USED_ELSEWHERE = {setting for row in SAMPLERS.values() for setting in row.uses} - USED_HERE
LEFT_OUT = USED_ELSEWHERE | {"classifier_scale"}


def write_site(folder: Path, checkpoints: list[str], report: Callable[[str], None] = print) -> None:
    """Write the demo with these checkpoints, folders or Hub ids, to ``folder``. The first checkpoint is shown first.

    The folder is replaced as a whole, or not at all. Raises UserError if it contains anything but an earlier demo, or if
    a checkpoint or the runtime cannot be prepared.
    """
    folder = folder.resolve()
    check_replaceable(folder)
    names = [Path(source).resolve().name if Path(source).is_dir() else name_of(source) for source in checkpoints]
    if len(set(names)) < len(names):
        raise UserError(f"two checkpoints have the same name ({', '.join(names)}): rename one of their folders")
    runtime = fetch_runtime()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        written = shutil.copytree(STATIC, Path(temporary) / "demo")
        for name in MEMBERS:
            shutil.copyfile(runtime / name, written / name)
        (written / "models").mkdir()
        for name, source in zip(names, checkpoints, strict=True):
            report(f"exporting {source}")
            write_model(written / "models", name, source)
        wasm = {"file": WASM, "bytes": (runtime / WASM).stat().st_size}
        write_json(written / DEMO, describe_demo() | {"checkpoints": names, "runtime": wasm})
        shutil.rmtree(folder, ignore_errors=True)
        written.replace(folder)


def check_replaceable(folder: Path) -> None:
    """Raise UserError unless the folder is missing, empty, or an earlier demo."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; the demo needs a folder: pass another name")
    if any(folder.iterdir()) and not (folder / DEMO).is_file():
        raise UserError(f"{folder} contains other files, which would be deleted: pass a new or empty folder")


def name_of(source: str) -> str:
    """Return the name of a Hub repository ``user/name`` or ``user/name@revision``."""
    return source.partition("@")[0].rpartition("/")[2]


def write_model(folder: Path, name: str, source: str) -> None:
    """Write ``name.onnx.gz`` and ``name.json`` of a checkpoint to the folder.

    ``fixed`` are the settings of a link that have only one value for this model.
    """
    model = load(source)
    check_exportable(model)
    network = compress(export_network(model))
    (folder / f"{name}.onnx.gz").write_bytes(network)
    file = {"file": f"{name}.onnx.gz", "bytes": len(network)}
    facts = describe_model(model, name) | {"fixed": keep_known(find_fixed(model))} | file
    write_json(folder / f"{name}.json", facts)


def describe_demo() -> dict:
    """Return what the page needs to know about settings, for JSON; all of it comes from the Python code.

    ``sampling`` has the settings that the app starts with, and ``defaults`` the same as in the query of a link.
    """
    return {
        "settings": [describe_setting(field) for field in fields(Sampling) if field.name not in LEFT_OUT],
        "sampling": keep_known(unflatten(DEFAULTS).as_dict()),
        "defaults": keep_known(DEFAULTS),
        "presets": PRESETS,
        "samplers": {name: describe_sampler(name) for name in SAMPLERS_HERE},
        "schedules": list(SCHEDULES),
        "panels": [{"key": key, "name": name, "meaning": meaning} for key, (name, meaning) in PANELS.items()],
        "most_images": MAX_COUNT,
    }


def keep_known(settings: dict) -> dict:
    """Return the settings that the browser has."""
    return {name: value for name, value in settings.items() if name not in LEFT_OUT}


def describe_setting(field) -> dict:
    """Return name, meaning, kind, default and limits of a field of ``Sampling``."""
    limits = dict(field.metadata)
    if "names" in limits:
        limits["names"] = list(SAMPLERS_HERE if field.name == "sampler" else limits["names"])
    ranges = {"interval": ALWAYS, "seed": (0, LAST_SEED)}
    if field.name in ranges:
        limits["lowest"], limits["highest"] = ranges[field.name]
    return {"name": field.name, "kind": type(field.default).__name__, "default": field.default} | limits


def describe_sampler(name: str) -> dict:
    """Return the row of a sampler, without its function."""
    return {key: value for key, value in asdict(SAMPLERS[name]).items() if key not in ("advance", "adaptive")}


def write_json(path: Path, value: dict) -> None:
    """Write a JSON file."""
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


class FileHandler(SimpleHTTPRequestHandler):
    """Serves files. Browsers run a module only with this type, which some systems do not have in their table."""

    extensions_map = SimpleHTTPRequestHandler.extensions_map | {".js": "text/javascript"}

    def log_message(self, *arguments) -> None:
        """Print nothing for each request."""


def serve(folder: Path, port: int = 0) -> ThreadingHTTPServer:
    """Return a plain file server of the folder on this machine, not yet running. Port 0 selects a free port."""
    return ThreadingHTTPServer(("127.0.0.1", port), partial(FileHandler, directory=str(folder)))
