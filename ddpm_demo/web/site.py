"""Writes the folder of the browser's demo: scripts, runtime, exported checkpoints, and the settings as JSON."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from PIL import Image

from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import ALWAYS, LAST_SEED, Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError
from ddpm_demo.generation.begin import LAST_TIMESTEP
from ddpm_demo.hub.client import locate
from ddpm_demo.models.checkpoint import Model, find_teacher, load, suggest_sampling
from ddpm_demo.ui.components import player
from ddpm_demo.ui.controls import INFO
from ddpm_demo.ui.data_uri import encode_picture
from ddpm_demo.ui.live import FEWEST_STEPS, LIVE_SECONDS
from ddpm_demo.ui.runs import BEST, DEFAULTS, MAX_COUNT, PRESETS, find_defaults, find_fixed
from ddpm_demo.ui.tabs import compare_tab, draw_tab, forward_tab, noise_tab, small_steps_tab
from ddpm_demo.web.export import check_exportable, describe_model, export_network
from ddpm_demo.web.runtime import WASM, compress, fetch_files

STATIC = Path(__file__).parent / "static"
FAVICON = player.HERE.parent / "favicon.png"
COMPONENTS = ("player", "pad", "grid", "noise_pad", "drag")  # of the app, which the page uses as they are
DEMO = "demo.json"
MARKS = (DEMO, "index.html")  # a folder with both was written by this module; a checkpoint has no page
# The samplers that choose their own steps, and guidance by a second network, run only in the app.
SAMPLERS_HERE = {name: row for name, row in SAMPLERS.items() if not row.adaptive}
USED_HERE = {setting for row in SAMPLERS_HERE.values() for setting in row.uses}
USED_ELSEWHERE = {setting for row in SAMPLERS.values() for setting in row.uses} - USED_HERE
LEFT_OUT = USED_ELSEWHERE | {"classifier_scale", "autoguidance"}


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
    folders = {name: locate(source) for name, source in zip(names, checkpoints, strict=True)}
    fetched = fetch_files()
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
        written = shutil.copytree(STATIC, Path(temporary) / "demo")
        for name, path in fetched.items():
            shutil.copyfile(path, written / name)
        shutil.copyfile(player.HERE / "charts.css", written / "charts.css")
        embed_icon(written / "index.html")
        write_components(written / "components")
        (written / "models").mkdir()
        for name, source in zip(names, checkpoints, strict=True):
            report(f"exporting {source}")
            write_model(written / "models", name, folders)
        wasm = {"file": WASM, "bytes": fetched[WASM].stat().st_size}
        write_json(written / DEMO, describe_demo() | {"checkpoints": names, "runtime": wasm})
        try:
            if folder.exists():
                folder.replace(Path(temporary) / "earlier")
            written.replace(folder)
        except OSError as error:
            raise UserError(f"{folder} cannot be replaced ({error}): pass another folder") from error


def check_replaceable(folder: Path) -> None:
    """Raise UserError unless the folder is missing, empty, or an earlier demo."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder} is a file; the demo needs a folder: pass another name")
    if any(folder.iterdir()) and not all((folder / name).is_file() for name in MARKS):
        raise UserError(f"{folder} contains other files, which would be deleted: pass a new or empty folder")


def name_of(source: str) -> str:
    """Return the name of a Hub repository ``user/name`` or ``user/name@revision``."""
    return source.partition("@")[0].rpartition("/")[2]


def embed_icon(page: Path) -> None:
    """Replace the address of the icon by the icon: a browser would load it again whenever the link of the page changes."""
    with Image.open(FAVICON) as icon:
        page.write_text(page.read_text().replace(FAVICON.name, encode_picture(icon)))


def write_components(folder: Path) -> None:
    """Write each component as a module with its ``html``, its ``css`` and a function ``start``, for host.js."""
    folder.mkdir()
    for name in COMPONENTS:
        html, css, js = (read_text(player.HERE / f"{name}.{suffix}") for suffix in ("html", "css", "js"))
        constants = {"name": name, "html": html, "css": css}
        lines = [f"export const {key} = {json.dumps(value)};" for key, value in constants.items()]
        function = f"export function start({{ element, props, watch, trigger, server }}) {{\n{js}}}\n"
        (folder / f"{name}.js").write_text("\n".join([*lines, function]))


def read_text(path: Path) -> str:
    """Return the content of a file; a component may lack one, which is then empty."""
    return path.read_text() if path.is_file() else ""


def write_model(folder: Path, name: str, folders: Mapping[str, Path]) -> None:
    """Write ``name.onnx.gz`` and ``name.json`` of a checkpoint to the folder, and its real images if it has some.

    ``defaults`` are the settings of a link that the checkpoint starts with, ``fixed`` those with only one value for it, and
    ``teacher`` is the one among the ``names`` from which it was distilled.
    """
    path = folders[name]
    model = load(path)
    check_exportable(model)
    network = compress(export_network(model))
    (folder / f"{name}.onnx.gz").write_bytes(network)
    facts = {"file": f"{name}.onnx.gz", "bytes": len(network), "examples": None}
    facts |= {"fixed": keep_known(find_fixed(model)), "defaults": find_defaults_here(model)}
    if (path / "examples.png").is_file():
        facts["examples"] = f"{name}-examples.png"
        shutil.copyfile(path / "examples.png", folder / facts["examples"])
    facts |= {"teacher": find_teacher(model.training, path, folders)}
    write_json(folder / f"{name}.json", describe_model(model, name) | facts)


def find_defaults_here(model: Model) -> dict:
    """Return the settings that a checkpoint starts with: its own, or the usual ones if its own need what is not here."""
    own = find_defaults(model)
    elsewhere = any(own[name] != DEFAULTS[name] for name in LEFT_OUT if name in own)
    if elsewhere or own["sampler"] not in SAMPLERS_HERE:
        own = find_defaults(replace(model, sampling=suggest_sampling(model.label_names)))
    return keep_known(own)


def describe_demo() -> dict:
    """Return what the page needs to know about settings, for JSON; all of it comes from the Python code.

    ``defaults`` has all settings of a link; those that a checkpoint brings are in its own ``defaults``.
    """
    return {
        "settings": [describe_setting(field) for field in fields(Sampling) if field.name not in LEFT_OUT],
        "defaults": keep_known(DEFAULTS),
        "best": BEST,
        "presets": PRESETS,
        "samplers": {name: describe_sampler(name) for name in SAMPLERS_HERE},
        "schedules": list(SCHEDULES),
        "panels": [{"key": key, "name": name, "meaning": meaning} for key, (name, meaning) in player.PANELS.items()],
        "notes": keep_known(INFO),
        "film": {"frames": player.MAX_FRAMES, "chunk_seconds": player.CHUNK_SECONDS},
        "live": {"seconds": LIVE_SECONDS, "fewest_steps": FEWEST_STEPS},
        "most_images": MAX_COUNT,
        **describe_tabs(),
    }


def describe_tabs() -> dict:
    """Return what the tabs other than Generate need to know, for JSON."""
    tasks = [task for task in draw_tab.TASKS if task != draw_tab.ENLARGE]  # this needs a network that takes an image
    return {
        "forward": {"last_timestep": LAST_TIMESTEP, "left": forward_tab.LEFT},
        "axes": [describe_axis(name) for name in compare_tab.AXES if name not in {*compare_tab.OWN, *LEFT_OUT}],
        "example": compare_tab.EXAMPLE,
        "pairs": compare_tab.PAIRS,
        "most_cells": compare_tab.MAX_CELLS,
        "steps_shown": compare_tab.STEPS_SHOWN,
        "draw": {
            "tasks": tasks,
            "steps": draw_tab.STEPS,
            "variants": draw_tab.VARIANTS,
            "most_draws": draw_tab.MAX_DRAWS,
            "bright": draw_tab.BRIGHT,
        },
        "noise_seeds": noise_tab.FIRST_SEEDS,
        "small_steps": {
            "mixture": asdict(small_steps_tab.DATA),
            "reach": small_steps_tab.REACH,
            "paths": small_steps_tab.PATHS,
            "verdicts": small_steps_tab.VERDICTS,
        },
    }


def describe_axis(name: str) -> dict:
    """Return the values that an axis of Compare offers, and those chosen at first."""
    axis = compare_tab.AXES[name]
    offered, first = (
        [value for value in values(None, "") if name != "sampler" or value in SAMPLERS_HERE]
        for values in (axis.offered, axis.first)
    )
    return {"name": name, "offered": offered, "first": first}


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
