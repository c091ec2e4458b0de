"""The configuration: one set of fields for the command line, the recipes, resuming and the model card."""

import json
import shlex
from dataclasses import asdict, fields, replace
from types import MappingProxyType

import pytest
import torch
from conftest import SHIPPED

from ddpm_demo.data.datasets import LOADERS
from ddpm_demo.errors import UserError
from ddpm_demo.training.command_line import RunOptions, build_parser, parse
from ddpm_demo.training.configuration import TrainingConfiguration, command_of, configure, flag_name, resume
from ddpm_demo.training.learning_rate import set_learning_rate, warm_up_and_decay
from ddpm_demo.training.recipes import RECIPES


def asked(*words: str) -> MappingProxyType:
    """The values that a command line names; what is given them cannot change them."""
    return MappingProxyType(parse(list(words), "")[0])


def test_every_field_has_its_flag_and_help():
    actions = {action.dest: action for action in build_parser("")._actions}
    for one in (*fields(TrainingConfiguration), *fields(RunOptions)):
        assert flag_name(one.name) in actions[one.name].option_strings and actions[one.name].help


def test_a_default_comes_from_the_field_or_the_recipe():
    configuration = configure(asked(), "cpu")
    assert (configuration.dataset, configuration.widths, configuration.schedule) == ("mnist", (48, 96), "cosine")
    assert configuration.minutes == 60 and configuration.mixed_precision == "auto"
    assert configure(asked("--time", "continuous"), "cpu").schedule == "linear"
    assert configure(asked("--epochs", "2"), "cpu").minutes is None
    assert configure(asked("--minutes", "5"), "cpu").widths == (32, 64)
    assert configure(asked("--latent", "--dataset", "cifar10"), "cuda").latent == "runs/cifar10"
    assert configure(asked(), "cuda").minutes == 15


@pytest.mark.parametrize(
    "words",
    [
        "--cfg --no-flip --minutes 5",
        "--dataset oxford-pets --classes Bombay 'A b' --widths 8 16 --epochs 0.5 --no-attention",
        "--cfg --contrastive 0.05 --optimizer muon --anneal 0.2 --ema-decay 0.999 0.9999 --epochs 3",
        "--latent --condition cross-attention --cfg --lr 0.001 --mixed-precision bf16 --start-from a/b",
    ],
)
def test_the_command_of_a_training_repeats_it(words):
    configuration = configure(asked(*shlex.split(words)), "cpu")
    saved = json.loads(json.dumps(asdict(configuration) | {"steps": 5, "seconds": 1.5, "device": "cpu"}))
    again = asked(*shlex.split(command_of(saved))[2:])
    assert configure(again, "cpu") == configuration == resume(again, asdict(configuration))


def test_an_older_training_is_repeated_with_the_optimizer_that_it_had():
    saved = {"dataset": "mnist", "cfg": True, "epochs": 2.0, "lr": 0.004}  # from before there was a choice
    again = configure(asked(*shlex.split(command_of(saved))[2:]), "cpu")
    assert again.optimizer == "adamw" and again.lr == 0.004
    assert configure(asked("--dataset", "mnist"), "cpu").optimizer == "muon"
    assert configure(asked("--dataset", "mnist", "--latent", "x"), "cpu").optimizer == "adamw"


def test_an_older_state_is_resumed_with_the_defaults():
    saved = json.loads((SHIPPED / "demo.json").read_text())["training"]
    saved = {name: saved[name] for name in saved if name in {one.name for one in fields(TrainingConfiguration)}}
    whole = resume(asked(), saved)
    older = {name: value for name, value in saved.items() if name not in ("time", "latent", "condition", "start_from")}
    assert resume(asked(), older) == whole
    assert resume(asked("--ema-decay", "0.999"), saved | {"ema_decay": 0.999}).ema_decay == (0.999,)
    assert resume(asked("--epochs", "3"), saved) == replace(whole, epochs=3.0, minutes=None)
    with pytest.raises(UserError, match=r"--widths is \(8,\), but the run to resume was started with \(48, 96\)"):
        resume(asked("--widths", "8"), saved)


def test_the_rate_warms_up_and_decays():
    rates = [warm_up_and_decay(2.0, step, step / 1000, 100) for step in range(1001)]
    assert rates[0] == pytest.approx(0.02) and max(rates) == pytest.approx(2.0, rel=0.03) and rates[-1] == 0
    assert rates[500] == pytest.approx(1.0)
    assert rates[250] == pytest.approx(1 + 0.5**0.5)  # half a cosine, not a line
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.SGD([{"params": [one]} for one in parameters], lr=0.1)
    set_learning_rate(optimizer, 0.5)
    sum(parameters).backward()
    optimizer.step()
    assert [one.item() for one in parameters] == [-0.5, -0.5]


def test_every_dataset_has_a_loader_and_a_recipe():
    assert RECIPES.keys() == LOADERS.keys()


def test_both_decays_warm_up_and_end_at_zero():
    """An annealed rate does not depend on the budget until its last fraction begins."""
    for anneal in (None, 0.25):
        rates = [warm_up_and_decay(1.0, step, 0.0, 200, anneal) for step in (0, 99, 199, 500)]
        assert rates == [0.005, 0.5, 1, 1] and warm_up_and_decay(1.0, 500, 1.0, 200, anneal) == 0
    assert [warm_up_and_decay(1.0, 500, fraction, 200, 0.25) for fraction in (0.5, 0.75, 0.875)] == [1, 1, 0.5]
