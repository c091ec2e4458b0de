"""README and docs are true: the list of parts, the links, the commands, and the tables of measured results."""

import ast
import importlib.util
import json
import re
import shlex
from functools import partial

import pytest
from conftest import ROOT

from ddpm_demo import SAMPLERS, SCHEDULES
from ddpm_demo.evaluation import compare, maps
from ddpm_demo.evaluation.__main__ import choose_rivals
from ddpm_demo.experiments import ablation, benchmark, trials
from ddpm_demo.experiments import conditioning as conditions
from ddpm_demo.generation.generate import count_evaluations
from ddpm_demo.hub import space
from ddpm_demo.models.checkpoint import load
from ddpm_demo.reports import results, tables
from ddpm_demo.training.configuration import command_of

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture(params=PAGES, ids=lambda path: path.name)
def page(request):
    return request.param


def first_lines():
    """The first line of the docstring of every package, and of every module beside the packages."""
    package = ROOT / "ddpm_demo"
    for path in [*package.glob("*.py"), *package.glob("*/**/__init__.py")]:
        if path != package / "__init__.py":
            name = path.parent.relative_to(package).as_posix() + "/" if path.name == "__init__.py" else path.name
            yield name, ast.get_docstring(ast.parse(path.read_text())).splitlines()[0]


def test_the_readme_lists_every_package_with_the_first_line_of_its_docstring():
    text = (ROOT / "README.md").read_text().split("contains\n")[1]
    assert dict(re.findall(r"^\| `([\w/.]+)` \| (.*) \|$", text, re.M)) == dict(first_lines())


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


def anchors(path):
    """The fragments that a page's headings offer, as GitHub names them."""
    headings = re.findall(r"^#+ (.*)$", path.read_text(), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_to_files_that_a_space_has_too(page):
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists() and target.relative_to(ROOT).parts[0] in space.NEEDED, link
            assert not anchor or anchor in anchors(target), link


def test_commands_name_modules_and_scripts_that_exist(page):
    text = page.read_text()
    for module in re.findall(r"-m (ddpm_demo[\w.]*)", text):
        spec = importlib.util.find_spec(module)
        assert spec and (not spec.submodule_search_locations or importlib.util.find_spec(f"{module}.__main__")), module
    for script in re.findall(r"(?:python|pytest|launch)(?: [^`\n]*)? ([\w/]+\.py)\b", text):
        assert (ROOT / script).is_file(), script


def committed(name):
    return json.loads((ROOT / "checkpoints" / name).read_text())


def test_the_shipped_ablation_is_of_the_shipped_networks():
    told = committed("ablation.json")
    rows = {row["name"]: row for row in told["rows"]}
    assert rows.keys() == ablation.RUNS.keys()
    assert len({row["training"]["steps"] for row in rows.values()}) == 1  # equal training
    for name in ("linear", "linear-attention", "cosine", "cosine-attention", "continuous"):
        about = json.loads((ROOT / f"checkpoints/mnist-{name}/demo.json").read_text())
        assert about["training"] | rows[name]["training"] == about["training"]
        words = shlex.split(command_of(about["training"]))
        flags = [word.split() for word in re.split(r" (?=--)", ablation.COMMON)]
        for name, *values in flags:
            place = words.index(name) + 1
            assert [f"{float(v):g}" if "e-" in v else v for v in values] == words[place : place + len(values)]


def measured_tables():
    """Every table of README and docs that a command printed, from the committed files."""
    quality, speed = committed("mnist/metrics.json"), committed("mnist/speed.json")
    yield tables.tabulate_quality(results.most_sampled(quality))
    yield from (maps.tabulate_excess(quality["quality"], *axes) for _, *axes in maps.TABLES)
    yield ablation.tabulate_choices(committed("ablation.json"))
    yield ablation.tabulate_sde(committed("ablation.json"))
    yield tables.tabulate_likelihood(quality["bits_per_dim"])
    yield maps.tabulate_guidance(quality["quality"])
    count = partial(count_evaluations, load(ROOT / "checkpoints/mnist"))
    student = committed("mnist-instant/metrics.json")["quality"]
    yield tables.tabulate_calls(choose_rivals(quality["quality"]), student, count)
    photographs, student = (committed(f"{name}/metrics.json")["quality"] for name in ("cifar10", "cifar10-instant"))
    count = partial(count_evaluations, load(ROOT / "checkpoints/cifar10"))
    yield tables.tabulate_calls(choose_rivals(photographs), student, count)
    yield benchmark.tabulate(speed)
    colour = [ROOT / "checkpoints/cifar10", ROOT / "checkpoints/cifar10-latent"]
    yield compare.compare_best(colour)
    yield compare.compare_at_equal_time(colour)
    yield conditions.tabulate(committed("conditions.json"))
    yield trials.tabulate(committed("trials.json"))


def tables_in(text):
    """The tables of a Markdown text: lists of rows, each a tuple of cells, without the lines that separate the heads."""
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.M):
        rows = [line for line in block.splitlines() if not set(line) <= set("|-: ")]
        yield [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]


def test_the_tables_are_those_that_were_measured():
    published = [table for page in PAGES for table in tables_in(page.read_text())]
    for text in measured_tables():
        tables = list(tables_in(text))
        assert tables and all(len(table) > 1 for table in tables)
        assert [table for table in tables if table not in published] == []


def test_every_sampler_and_schedule_is_documented():
    for path in (ROOT / "README.md", ROOT / "docs/how-it-works.md"):
        text = path.read_text()
        for name in (*(SAMPLERS if path.name == "README.md" else ()), *SCHEDULES):
            assert f"`{name}`" in text, f"{path.name} does not name {name}"
