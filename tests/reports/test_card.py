import argparse
import random
from dataclasses import replace

import pytest
from conftest import tiny_model

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.evaluation.flags import add_sampling_flags, read_settings
from ddpm_demo.evaluation.maps import combine
from ddpm_demo.models import checkpoint
from ddpm_demo.reports.card import list_flags, write_card
from ddpm_demo.ui.tabs import evidence_tab


def read(flags: str) -> list[Sampling]:
    parser = argparse.ArgumentParser()
    add_sampling_flags(parser, several=True)
    return read_settings(parser.parse_args(flags.split()))


@pytest.mark.parametrize("seed", range(20))
def test_the_commands_of_a_card_measure_its_settings_and_no_others(seed):
    every = combine(
        {
            "sampler": ["ddpm", "ddim"],
            "steps": [1, 20],
            "weight": [0.0, 0.25],
            "interval": [(-20.0, 20.0), (-3.0, 3.0)],
            "autoguidance": [0.0, 0.5],
        }
    )
    settings = random.Random(seed).sample(every, 1 + seed)
    measured = [setting for flags in list_flags(settings) for setting in read(flags)]
    assert len(measured) == len(settings) and set(measured) == set(settings)


def test_settings_that_are_all_combinations_need_one_command():
    assert list_flags(combine({"steps": [1, 2], "weight": [0.0, 1.0]})) == ["--steps 1 2 --weight 0 1"]


def test_the_card_and_the_app_tell_of_all_trainings_of_the_weights(tmp_path):
    one = {
        "prediction": "v_prediction",
        "schedule": "cosine",
        "lr": 0.5,
        "steps": 10,
        "seconds": 120.0,
        "device": "cpu",
    }
    continued = one | {"start_from": "checkpoints/one", "lr": 0.25, "steps": 5, "seconds": 60.0}
    model = replace(tiny_model(), training=continued | {"earlier": [one]})
    checkpoint.save(model, tmp_path)
    write_card(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.index("--lr 0.5") < card.index("--start-from checkpoints/one") and "15 steps in 3 minutes" in card
    assert "3 min, 15 steps in 2 parts (cpu)" in evidence_tab.summarise(model, {}, "x")
    assert "parts" not in evidence_tab.summarise(replace(model, training=one), {}, "x")
