"""The rules of the house: imports run one way, the app's library stays in the app, the text and tables are true."""

import ast
import json
import re

import pytest
from conftest import ROOT, SHIPPED

from ddpm_demo.evaluation import __main__ as evaluation
from ddpm_demo.experiments import ablation, benchmark
from ddpm_demo.experiments import conditioning as conditions
from ddpm_demo.reports import card
from ddpm_demo.reports import results as metrics
from ddpm_demo.reports.card import training_command

ALLOWED = {  # what a file may import from this package; anything not named may import anything below the app
    "errors": set(),
    "schedule": set(),
    "codec": {"errors"},
    "recipes": {"errors"},
    "networks": {"errors"},
    "data": {"errors"},
    "denoiser": {"networks", "schedule"},
    "conditioning": {"codec", "denoiser"},
    "guidance": {"denoiser"},
    "ode": {"denoiser"},
    "samplers": {"denoiser", "ode"},
    "settings": {"errors", "recipes"},
    "state": set(),
    "checkpoint": {"codec", "denoiser", "errors", "networks", "noisy_classifier", "schedule", "hub"},
    "hub": {"errors", "space"},
    "space": {"errors", "hub"},
    "card": set(),
}
FILES = [*sorted((ROOT / "ddpm_demo").rglob("*.py")), ROOT / "app.py", ROOT / "train.py"]


def imports(path):
    """(package, rest) of every import in a file."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (tuple(alias.name.split(".")) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = tuple(node.module.split("."))
            yield from ([(*parts, alias.name) for alias in node.names] if parts == ("ddpm_demo",) else [parts])


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_run_one_way(path):
    own = {parts[1] for parts in imports(path) if parts[0] == "ddpm_demo" and len(parts) > 1}
    if path.parent.name == "ddpm_demo" and path.stem in ALLOWED:
        assert own <= ALLOWED[path.stem]
    if path.parent.name == "ddpm_demo":
        assert "ui" not in own
    if "ui" not in path.parts and path.name != "app.py":
        assert not any(parts[0] == "gradio" for parts in imports(path))


def test_files_are_small_rooms():
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 300}
    assert not long


def test_the_readme_names_every_file_and_no_other():
    text = (ROOT / "README.md").read_text()
    named = set(re.findall(r"^(\w+\.py|\w+/\w+\.py)", "\n".join(re.findall(r"```text\n(.*?)```", text, re.S)), re.M))
    found = {str(p.relative_to(ROOT / "ddpm_demo")) for p in (ROOT / "ddpm_demo").rglob("*.py")}
    assert named - {"app.py", "train.py"} == found - {"__init__.py", "ui/__init__.py"} | ({"__init__.py"} & named)


def committed(name):
    path = ROOT / "checkpoints" / name
    return json.loads(path.read_text())


def test_the_shipped_ablation_is_of_the_shipped_networks():
    told = committed("ablation.json")
    rows = {row["name"]: row for row in told["rows"]}
    assert rows.keys() == ablation.RUNS.keys()
    assert len({row["training"]["steps"] for row in rows.values()}) == 1  # equal training
    for name in ("linear", "linear-attention", "cosine", "cosine-attention", "continuous"):
        about = json.loads((ROOT / f"checkpoints/mnist-{name}/demo.json").read_text())
        assert about["training"] | rows[name]["training"] == about["training"]
        assert ablation.COMMON.split("--batch-size")[1].split()[0] in training_command(about["training"])


def measured_tables():
    """Every table of the README that a command printed, from the committed files."""
    quality, speed = committed("mnist/metrics.json"), committed("mnist/speed.json")
    yield card.measured(quality)
    yield from (metrics.table(quality["quality"], *axes) for _, *axes in evaluation.TABLES)
    yield ablation.table(committed("ablation.json"))
    yield ablation.sde_table(committed("ablation.json"))
    yield card.likelihood(quality["bits_per_dim"])
    yield metrics.kinds_of_guidance(metrics.read_metrics(SHIPPED)["quality"], evaluation.GUIDED)
    yield benchmark.table(speed)
    colour = [ROOT / "checkpoints/cifar10", ROOT / "checkpoints/cifar10-latent"]
    yield metrics.headlines(colour)
    yield metrics.at_equal_time(colour)
    yield conditions.table(committed("conditions.json"))


def test_the_readmes_tables_are_those_that_were_measured():
    readme = (ROOT / "README.md").read_text().splitlines()
    for table in measured_tables():
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len(rows) > 3 and [row for row in rows if row not in readme] == []
