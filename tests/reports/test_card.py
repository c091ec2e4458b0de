import argparse
import random

import pytest

from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.evaluation.flags import add_sampling_flags, read_settings
from ddpm_demo.evaluation.maps import combine
from ddpm_demo.reports.card import list_flags


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
