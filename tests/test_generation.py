import pytest
import torch
from conftest import SHIPPED, tiny_model

import ddpm_demo
from ddpm_demo import UserError, generate, sample
from ddpm_demo.classifier import load_classifier


def test_every_step_is_an_image(model):
    steps = list(sample(model, [0, 1], weight=2.0, steps=5))
    assert [step.timestep for step in steps] == [999, 799, 599, 399, 199]
    for step in steps:
        for panel in (step.x, step.x0, step.eps, step.guidance):
            assert panel.shape == (2, 1, 16, 16)
    assert torch.equal(steps[-1].x0, generate(model, [0, 1], weight=2.0, steps=5))


@pytest.mark.parametrize("sampler", ["ddpm", "sde-dpm++2m", "ddim"])
def test_image_k_does_not_change_with_the_batch(model, sampler):
    together = generate(model, [0, 1, 2], sampler=sampler, weight=1.0, steps=6, seed=5)
    for k in range(3):
        alone = generate(model, [k], sampler=sampler, weight=1.0, steps=6, seed=5 + k)
        torch.testing.assert_close(together[k : k + 1], alone, atol=1e-4, rtol=0)


def test_the_seed_and_the_label_decide(model):
    one = generate(model, [0], steps=4, seed=1)
    assert torch.equal(one, generate(model, [0], steps=4, seed=1))
    assert not torch.allclose(one, generate(model, [0], steps=4, seed=2), atol=0.01)
    assert not torch.allclose(one, generate(model, [1], steps=4, seed=1), atol=1e-4)


def test_without_labels():
    unconditional = tiny_model(classes=0)
    assert generate(unconditional, count=3, steps=3).shape == (3, 1, 16, 16)
    conditional = tiny_model()
    null = generate(conditional, [0], weight=-1.0, steps=3)
    torch.testing.assert_close(generate(conditional, count=1, steps=3), null)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"schedule": "cosin"}, "schedule is 'cosin'; it must be one of linear, quadratic, cosine, sigmoid"),
        ({"sampler": "plms"}, "sampler is 'plms'; it must be one of ddpm, ddim, dpm\\+\\+2m"),
        ({"variance": "learned"}, "variance is 'learned'; it must be one of posterior, beta"),
        ({"weight": float("nan")}, "weight is nan; it must be a finite number"),
        ({"weight": 1e9}, "weight is 1000000000.0; it must lie between -100 and 100"),
        ({"weight": "2"}, "weight is '2'; it must be a finite number"),
        ({"steps": 0}, "steps is 0; it must be a whole number from 1 to 1000"),
        ({"steps": 1001}, "steps is 1001; it must be a whole number from 1 to 1000"),
        ({"steps": 2.5}, "steps is 2.5; it must be a whole number"),
        ({"steps": True}, "steps is True; it must be a whole number"),
        ({"seed": -1}, "seed is -1; it must be a whole number from 0"),
        ({"labels": [3]}, "label is 3; it must be a whole number from 0 to 2"),
        ({"labels": []}, "labels is empty"),
        ({"labels": None, "weight": 1.0}, "guidance needs labels"),
        ({"count": 5}, "count is 5, but there are 1 labels"),
        ({"interval": (2.0, 1.0)}, "interval is .*; it must be \\(lowest, highest\\)"),
    ],
)
def test_a_wrong_setting_is_named_before_anything_is_computed(model, settings, message):
    with pytest.raises(UserError, match=message):
        sample(model, **{"labels": [0], **settings})


def test_labels_for_an_unconditional_model():
    with pytest.raises(UserError, match="trained without classes: pass count instead"):
        sample(tiny_model(classes=0), [1])


@pytest.mark.parametrize(
    "sampler, schedule, steps",
    [
        ("dpm++2m", "linear", 20),
        ("dpm++2m", "quadratic", 20),
        ("dpm++2m", "sigmoid", 20),
        ("dpm++2m", "cosine", 12),
        ("ddim", "cosine", 20),
        ("heun", "cosine", 12),
        ("ddpm", "cosine", 50),
        ("sde-dpm++2m", "cosine", 30),
        ("euler-maruyama", "linear", 150),
    ],
)
def test_the_shipped_model_draws_what_is_asked(sampler, schedule, steps):
    """One checkpoint, every schedule and sampler: the judge reads at least nine in ten digits as asked."""
    model, (judge, _) = ddpm_demo.load(SHIPPED), load_classifier(SHIPPED)
    labels = torch.arange(20) % 10
    images = generate(model, labels.tolist(), weight=1.0, schedule=schedule, sampler=sampler, steps=steps)
    assert (judge(images).argmax(1) == labels).sum() >= 18
