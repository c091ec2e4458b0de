"""The package as pip installs it, used from another folder."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv

import pytest
from conftest import ROOT
from standin import TOKEN
from test_hub import NAME, folder, there  # noqa: F401 fixtures

from ddpm_demo.hub import client

USE = f"""
import ddpm_demo, ddpm_demo.reports.card
model = ddpm_demo.load({NAME!r})
images = ddpm_demo.generate(model, [3], weight=1.0, steps=2)
print(ddpm_demo.__file__, tuple(images.shape))
"""


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """The Python of a fresh environment that holds the installed package; its dependencies are those of the tests."""
    place = tmp_path_factory.mktemp("installed")
    sources = place / "sources"  # building writes beside the sources
    hidden = shutil.ignore_patterns(".*", "__pycache__", "tests", "checkpoints", "docs", "build", "*.egg-info", "runs")
    shutil.copytree(ROOT, sources, ignore=hidden)
    venv.create(place / "venv", with_pip=False)
    python = place / "venv/bin/python"
    libraries = next((place / "venv/lib").glob("python*/site-packages"))
    (libraries / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, sources], check=True, timeout=300)
    return python


@pytest.mark.slow
def test_it_loads_from_the_hub_in_another_folder(there, folder, environment, tmp_path):  # noqa: F811
    client.push(folder, NAME)
    settings = {"HF_ENDPOINT": there.url, "HF_TOKEN": TOKEN, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    settings |= {"HF_HOME": str(tmp_path / "home"), "PYTHONPATH": ""}
    done = subprocess.run(
        [environment, "-c", USE], cwd=tmp_path, env=os.environ | settings, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert "site-packages" in done.stdout and done.stdout.strip().endswith("(1, 1, 28, 28)")
