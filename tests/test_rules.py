"""The rules of the house: imports between packages run one way, and the app's library stays in the app."""

import ast

import pytest
from conftest import ROOT

# Every edge that is allowed: what the files of a package may import from others. Leaves are files, not packages.
ALLOWED = {
    "errors": set(),
    "files": set(),
    "diffusion": {"errors"},
    "data": {"errors", "files", "diffusion"},
    "hub": {"errors", "files"},
    "models": {"errors", "files", "diffusion", "hub"},
    "generation": {"errors", "files", "diffusion", "data", "models"},
    "training": {"errors", "files", "diffusion", "data", "models", "generation"},
    "reports": {"errors", "files", "diffusion", "models", "training"},
    "evaluation": {"errors", "files", "diffusion", "data", "models", "generation", "training", "reports"},
    "experiments": {"errors", "files", "diffusion", "data", "models", "generation", "training", "reports", "evaluation"},
    "ui": {"errors", "files", "diffusion", "data", "models", "generation", "reports", "experiments"},
    "web": {"errors", "files", "diffusion", "hub", "models", "generation", "ui"},
    "ddpm_demo": {"errors", "diffusion", "models", "generation"},  # the public face, ddpm_demo/__init__.py
    "app.py": {"files", "hub", "ui", "ddpm_demo"},
    "train.py": {"errors", "data", "hub", "models", "training", "reports"},
}  # fmt: skip
FILES = [*sorted((ROOT / "ddpm_demo").rglob("*.py")), ROOT / "app.py", ROOT / "train.py"]


def imported_modules(path):
    """The dotted name of every module that a file imports, at its top or inside a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import"
            inside = node.module == "ddpm_demo"
            yield from (f"{node.module}.{alias.name}" for alias in node.names) if inside else [node.module]


def package_of(path):
    """The package, or leaf, that a file belongs to."""
    inside = path.relative_to(ROOT).with_suffix("").parts[1:]
    return path.name if not inside else "ddpm_demo" if inside == ("__init__",) else inside[0]


def edges(path):
    """The packages of this project that a file imports, its own left out."""
    for module in imported_modules(path):
        first, _, rest = module.partition(".")
        if first == "ddpm_demo":
            target = rest.split(".")[0]
            known = (ROOT / "ddpm_demo" / target).is_dir() or (ROOT / "ddpm_demo" / f"{target}.py").is_file()
            yield target if target and known else "ddpm_demo"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_run_one_way(path):
    package = package_of(path)
    assert set(edges(path)) - {package} <= ALLOWED[package]
    if package not in ("ui", "app.py"):
        assert "gradio" not in {module.split(".")[0] for module in imported_modules(path)}


def test_every_edge_that_is_allowed_is_used_and_there_is_no_circle():
    used = {package: set() for package in ALLOWED}
    for path in FILES:
        used[package_of(path)] |= set(edges(path)) - {package_of(path)}
    assert used == ALLOWED
    order = list(ALLOWED)
    for package, targets in ALLOWED.items():
        assert all(order.index(target) < order.index(package) for target in targets)


def test_the_mathematics_needs_torch_and_scipy_alone():
    outside = set()
    for path in (ROOT / "ddpm_demo/diffusion").glob("*.py"):
        outside |= {module.split(".")[0] for module in imported_modules(path)}
    standard = {"collections", "dataclasses", "functools", "itertools", "math", "typing"}
    assert outside - standard == {"ddpm_demo", "scipy", "torch"}
