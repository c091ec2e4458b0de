"""Which precision a training uses, and what the choice leaves unchanged."""

from dataclasses import asdict, replace

import pytest
import torch
from diffusers.models.attention_processor import Attention, AttnProcessor
from test_training import SETTINGS

from ddpm_demo.data import datasets as data
from ddpm_demo.models.adapters import CONDITIONS
from ddpm_demo.models.networks import build_unet, use_plain_attention
from ddpm_demo.training import precision
from ddpm_demo.training.command_line import parse
from ddpm_demo.training.configuration import configure, resume


@pytest.fixture(scope="module")
def images(mnist_dir):
    return data.load("mnist", mnist_dir)


def decide(monkeypatch, images, seconds, device="cpu", asked="auto"):
    monkeypatch.setattr(precision, "time_steps", lambda *given: dict(zip(("no", "bf16"), seconds)))
    return precision.choose_precision(replace(SETTINGS, mixed_precision=asked), images, device).mixed_precision


def test_the_faster_precision_is_chosen_and_printed(monkeypatch, images, capsys):
    assert decide(monkeypatch, images, (0.5, 0.3)) == "bf16"
    printed = capsys.readouterr().out
    assert printed == "a training step takes 0.300 s in bf16 and 0.500 s in float32: training in bf16\n"
    assert decide(monkeypatch, images, (0.3, 0.5)) == "no" and "training in float32" in capsys.readouterr().out
    assert decide(monkeypatch, images, (0.31, 0.30)) == "no"  # the gain is too small


def test_a_named_precision_is_not_timed(monkeypatch, images, capsys):
    assert decide(monkeypatch, images, (9.0, 1.0), asked="no") == "no"
    assert decide(monkeypatch, images, (1.0, 9.0), asked="bf16") == "bf16"
    assert decide(monkeypatch, images, (1.0, 9.0), device="cuda") == "bf16" and capsys.readouterr().out == ""


@pytest.mark.parametrize("condition", CONDITIONS)
def test_both_precisions_are_timed(images, condition):
    seconds = precision.time_steps(replace(SETTINGS, condition=condition), images, 4)
    assert seconds.keys() == {"no", "bf16"} and min(seconds.values()) > 0


def test_a_resumed_run_keeps_its_precision():
    assert configure(parse([], "")[0], "cpu").mixed_precision == "auto"
    saved = asdict(replace(SETTINGS, mixed_precision="bf16"))
    for words in ([], ["--mixed-precision", "auto"], ["--mixed-precision", "bf16"]):
        assert resume(parse(words, "")[0], saved).mixed_precision == "bf16"


@pytest.mark.parametrize("condition", CONDITIONS)
def test_plain_attention_is_the_same_function_of_the_same_weights(condition):
    net = build_unet((4, 8, 8), (8, 16), 3, layers=1, condition=condition).double().eval()
    channels = net.config.in_channels
    condition = torch.randn(2, 5, net.config.encoder_hid_dim).double() if "encoder_hid_dim" in net.config else None
    given = torch.randn(2, channels, 8, 8).double(), torch.tensor([10.0, 900.0]).double()
    given += (torch.tensor([0, 3]) if condition is None else condition,)
    fused, config, names = net(*given, return_dict=False)[0], dict(net.config), list(net.state_dict())
    use_plain_attention(net)
    processors = [module.processor for module in net.modules() if isinstance(module, Attention)]
    assert processors and all(type(processor) is AttnProcessor for processor in processors)
    torch.testing.assert_close(net(*given, return_dict=False)[0], fused)
    assert dict(net.config) == config and list(net.state_dict()) == names
