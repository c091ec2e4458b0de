import pytest
import torch

from ddpm_demo.guidance import ClassifierFree
from ddpm_demo.samplers import sample
from ddpm_demo.schedule import Schedule


class Counting:
    """A denoiser whose estimate is its label, and that counts the images it saw."""

    images = calls = 0

    def __call__(self, x, log_snr, label):
        self.images, self.calls = self.images + len(x), self.calls + 1
        return torch.ones_like(x) * label.reshape(-1, 1, 1, 1)


X, LABEL = torch.randn(2, 1, 4, 4), torch.tensor([1, 2])


def test_the_formula_and_its_direction():
    guided = ClassifierFree(Counting(), weight=2.0, null_label=10)
    conditional = torch.ones_like(X) * LABEL.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(guided(X, 0.0, LABEL), 3 * conditional - 2 * 10)
    torch.testing.assert_close(guided.direction, conditional - 10)


@pytest.mark.parametrize("weight, factor", [(0.0, 1), (-1.0, 1), (1.0, 2), (-0.5, 2)])
def test_the_other_half_is_computed_only_where_it_counts(weight, factor):
    denoise = Counting()
    guided = ClassifierFree(denoise, weight, null_label=10)
    list(sample(guided, X, Schedule.named("cosine").grid(7), LABEL))
    assert (denoise.calls, denoise.images) == (7, 7 * len(X) * factor)


def test_weight_0_is_conditional_and_minus_1_unconditional():
    assert torch.equal(ClassifierFree(Counting(), 0.0, 10)(X, 0.0, LABEL), Counting()(X, 0.0, LABEL))
    assert (ClassifierFree(Counting(), -1.0, 10)(X, 0.0, LABEL) == 10).all()


def test_outside_the_interval_nothing_is_guided():
    denoise = Counting()
    guided = ClassifierFree(denoise, 3.0, 10, interval=(-2.0, 2.0))
    steps = list(sample(guided, X, torch.tensor([-5.0, -1.0, 1.0, 5.0]), LABEL))
    assert [step.guidance is not None for step in steps] == [False, True, True, False]
    assert denoise.images == len(X) * (1 + 2 + 2 + 1)
