"""Training that is killed: in a file of its own, so that it runs beside the other slow tests."""

import random
import time

import pytest
import torch
from safetensors.torch import load_file
from test_train_command import TINY, start, train

from ddpm_demo.training.state import list_states, read_progress


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_bits(mnist_dir, tmp_path):
    """kill -9 at four moments, saving after every step: two at random, two as soon as a save is seen under way."""
    # AdamW has the larger state, so that a kill falls inside a save more often.
    options = ("--cfg", "--epochs", "10", "--optimizer", "adamw", "--save-every", "0.001", *TINY)
    assert train(mnist_dir, tmp_path / "whole", *options, timeout=300).returncode == 0
    folder, moments = tmp_path / "killed", random.Random(0)
    process = start(mnist_dir, folder, *options)
    inside_a_save = 0
    for kill in range(4):
        before = read_progress(folder / "state")
        deadline = time.monotonic() + 90
        while read_progress(folder / "state") == before and time.monotonic() < deadline:
            time.sleep(0.01)
        if kill % 2:
            time.sleep(moments.uniform(0, 0.6))
        while not kill % 2 and time.monotonic() < deadline and not any((folder / "state").glob(".*.tmp")):
            pass
        process.kill()
        process.communicate()
        inside_a_save += any((folder / "state").glob(".*.tmp"))
        process = start(mnist_dir, folder, "--resume", "--save-every", "0.001")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert inside_a_save, "no kill fell inside a save: the test proves less than it says"
    whole, killed = (load_file(list_states(path / "state")[-1]) for path in (tmp_path / "whole", folder))
    assert whole.keys() == killed.keys() and all(torch.equal(whole[name], killed[name]) for name in whole)
