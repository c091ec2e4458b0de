import pytest
import torch
from conftest import SHIPPED, tiny_model
from PIL import Image

import ddpm_demo
from ddpm_demo import UserError
from ddpm_demo.data.images import split_row
from ddpm_demo.generation.zero_shot import classify


def test_it_reads_real_digits():
    model = ddpm_demo.load(SHIPPED)
    with Image.open(SHIPPED / "examples.png") as row:
        digits = split_row(row, 1, 28)
    read = []
    for digit in digits:
        *_, last = classify(model, digit, draws=16)
        read.append(last.errors.argmin().item())
    assert sum(label == k for k, label in enumerate(read)) >= 9  # 40 of the first 40 test digits were, at 16 draws


def test_it_firms_up_and_compares_in_pairs(model):
    readings = list(classify(model, torch.zeros(1, 16, 16), draws=12, batch=4))
    assert [reading.draws for reading in readings] == [4, 8, 12] and readings[0].total == 12
    last = readings[-1]
    assert last.excess.min() == 0 and last.excess[last.errors.argmin()] == 0
    assert last.spread[last.errors.argmin()] == 0 and bool((last.spread >= 0).all())
    again = list(classify(model, torch.zeros(1, 16, 16), draws=12, batch=6))[-1]
    assert again.errors.shape == (3,)


def test_what_it_cannot_read_is_a_sentence(model):
    with pytest.raises(UserError, match="without classes"):
        next(classify(tiny_model(classes=0), torch.zeros(1, 16, 16)))
    with pytest.raises(UserError, match="image has shape"):
        next(classify(model, torch.zeros(1, 28, 28)))
