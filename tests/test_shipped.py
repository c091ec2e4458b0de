"""The shipped checkpoints are the defaults of every command, from any folder."""

from argparse import ArgumentParser
from pathlib import Path

import pytest
from conftest import SHIPPED, tiny_model

import app
import ddpm_demo
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation import __main__ as evaluation
from ddpm_demo.experiments import benchmark, peer, runner
from ddpm_demo.generation import animation
from ddpm_demo.web import __main__ as web


@pytest.fixture(autouse=True)
def another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("module", [animation, benchmark])
def test_a_command_that_loads_it(module, monkeypatch, capsys):
    def load(source):
        raise UserError(f"asked for {source}")

    monkeypatch.setattr(module, "load", load)
    assert module.main([]) == 2
    assert capsys.readouterr().err == f"error: asked for {SHIPPED}\n"


@pytest.mark.parametrize("command", ["samples", "map", "over-time", "likelihood", "restore", "beside"])
def test_every_measurement(command):
    assert Path(evaluation.command_line().parse_args([command]).checkpoint) == SHIPPED


def test_the_judge_of_the_other_network():
    assert Path(peer.command_line().parse_args([]).classifier) == SHIPPED


def test_the_judge_of_an_experiment():
    parser = ArgumentParser()
    runner.add_common_flags(parser, epochs=1, samples=1, output="runs/x", dataset="mnist")
    assert Path(parser.parse_args([]).classifier) == SHIPPED


def test_the_static_demo(monkeypatch):
    written = []
    monkeypatch.setattr(web, "write_and_serve", lambda folder, options: written.extend(options.checkpoint))
    assert web.main(["site"]) == 0 and [Path(source) for source in written] == [
        SHIPPED,
        SHIPPED.with_name("mnist-instant"),
    ]


def test_the_app(monkeypatch):
    monkeypatch.setattr(ddpm_demo, "load", lambda folder, device: tiny_model())
    catalogue = app.open_catalogue()
    assert catalogue.names[0] == "mnist" and catalogue.folder() == SHIPPED and "cifar10" in catalogue.names
