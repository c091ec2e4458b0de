import pytest
import torch

from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.diffusion.guidance import Autoguidance, ByClassifier, ClassifierFree, KeepKnown
from ddpm_demo.diffusion.mixture import Mixture
from ddpm_demo.diffusion.reverse_process import walk
from ddpm_demo.diffusion.schedule import Schedule


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
    x0, direction = guided(X, 0.0, LABEL)
    torch.testing.assert_close(x0, 3 * conditional - 2 * 10)
    torch.testing.assert_close(direction, conditional - 10)


@pytest.mark.parametrize("weight, factor", [(0.0, 1), (-1.0, 1), (1.0, 2), (-0.5, 2)])
def test_the_other_half_is_computed_only_where_it_counts(weight, factor):
    denoise = Counting()
    guided = ClassifierFree(denoise, weight, null_label=10)
    list(walk(guided, X, Schedule.named("cosine").grid(7), LABEL))
    assert (denoise.calls, denoise.images) == (7, 7 * len(X) * factor)


def test_weight_0_is_conditional_and_minus_1_unconditional():
    assert torch.equal(ClassifierFree(Counting(), 0.0, 10)(X, 0.0, LABEL).x0, Counting()(X, 0.0, LABEL))
    assert (ClassifierFree(Counting(), -1.0, 10)(X, 0.0, LABEL).x0 == 10).all()


def test_outside_the_interval_nothing_is_guided():
    denoise = Counting()
    guided = ClassifierFree(denoise, 3.0, 10, interval=(-2.0, 2.0))
    steps = list(walk(guided, X, torch.tensor([-5.0, -1.0, 1.0, 5.0]), LABEL))
    assert [step.guidance is not None for step in steps] == [False, True, True, False]
    assert denoise.images == len(X) * (1 + 2 + 2 + 1)


def test_autoguidance_leads_away_from_the_weaker_estimate():
    strong, weak = Counting(), Counting()
    guided = Autoguidance(strong, lambda x, log_snr, label: weak(x, log_snr, label + 1), 0.5, interval=(-2.0, 2.0))
    x0, direction = guided(X, 0.0, LABEL)
    asked = torch.ones_like(X) * LABEL.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(x0, asked - 0.5)  # the weaker estimate is larger by one
    torch.testing.assert_close(direction, -torch.ones_like(X))
    steps = list(walk(guided, X, torch.tensor([-5.0, -1.0, 1.0, 5.0]), LABEL))
    assert [step.guidance is not None for step in steps] == [False, True, True, False]
    assert (strong.calls, weak.calls) == (1 + 4, 1 + 2)
    assert Autoguidance(strong, None, 0.0)(X, 0.0, LABEL).direction is None


def test_autoguidance_finds_the_denoiser_of_which_both_are_errors():
    """If both estimates differ from the exact one in the same direction, the weaker twice as much, s = 1 is exact."""
    exact, error = MIXTURE.denoise, torch.full((2, 1, 4, 4), 0.1)
    guided = Autoguidance(lambda *a: exact(*a[:2]) + error, lambda *a: exact(*a[:2]) + 2 * error, 1.0)
    torch.testing.assert_close(guided(X, -1.0, None).x0, exact(X, -1.0))


@pytest.mark.parametrize("weight", [0.0, -1.0, 2.0])
def test_the_class_guides_what_is_guided_by_itself(weight):
    """At w = 2 each estimate is guided by itself; where the class adds no direction, that of the other guidance is left."""
    own = Autoguidance(
        Counting(), lambda x, log_snr, label: torch.ones_like(x) * (2 * label + 1).reshape(-1, 1, 1, 1), 1.0
    )
    x0, direction = ClassifierFree(own, weight, null_label=10)(X, 0.0, LABEL)
    label = LABEL.reshape(-1, 1, 1, 1).float().expand_as(X)
    with_class, without = 2 * label - (2 * label + 1), torch.full_like(X, 2 * 10 - (2 * 10 + 1))
    torch.testing.assert_close(x0, (1 + weight) * with_class - weight * without)
    expected = {0.0: -label - 1, -1.0: torch.full_like(X, -10 - 1), 2.0: with_class - without}
    torch.testing.assert_close(direction, expected[weight])


MIXTURE = Mixture((0.3, 0.5, 0.2), (-0.8, 0.1, 0.7), (0.1, 0.15, 0.1))


def part_of_the_mixture(x, log_snr):
    """The exact log p(part | x_t) of every x (N, 1, 1, 1), up to a constant: (N, 3)."""
    shares, centres, widths = MIXTURE.parts()
    alpha, sigma = (c.reshape(-1, 1) for c in alpha_sigma(log_snr))
    variance = (alpha * widths) ** 2 + sigma**2
    return shares.log() - variance.log() / 2 - (x.flatten()[:, None] - alpha * centres) ** 2 / (2 * variance)


@pytest.mark.parametrize("log_snr", [-6.0, -1.0, 2.0, 7.0])
def test_an_exact_classifier_makes_an_unconditional_denoiser_conditional(log_snr):
    """Bayes' rule: with s = 1 the guided estimate is E[x_0 | x_t, part], and eps moves by -sigma times the gradient."""
    x = torch.linspace(-2, 2, 41, dtype=torch.float64).reshape(-1, 1, 1, 1)
    for part in range(3):
        alone = Mixture((1.0,), (MIXTURE.centres[part],), (MIXTURE.widths[part],))
        guided = ByClassifier(MIXTURE.denoise, part_of_the_mixture, 1.0)
        label = torch.full((len(x),), part)
        x0, direction = guided(x, log_snr, label)
        torch.testing.assert_close(x0, alone.denoise(x, log_snr))
        alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
        gradient = direction * alpha / sigma**2
        moved = (x - alpha * x0) / sigma - (x - alpha * MIXTURE.denoise(x, log_snr)) / sigma
        torch.testing.assert_close(moved, -sigma * gradient)


def test_a_classifier_guides_only_where_it_is_asked():
    x, label = torch.zeros(2, 1, 1, 1, dtype=torch.float64), torch.tensor([0, 2])
    for guided in (ByClassifier(MIXTURE.denoise, None, 0.0), ByClassifier(MIXTURE.denoise, None, 2.0, (-3.0, 3.0))):
        x0, direction = guided(x, 5.0, label)
        assert torch.equal(x0, MIXTURE.denoise(x, 5.0)) and direction is None


@pytest.mark.parametrize("log_snr, guided", [(-2.0, True), (2.0, True), (-2.001, False), (2.001, False)])
def test_the_ends_belong_to_the_interval(log_snr, guided):
    x, label, ends = torch.zeros(2, 1, 1, 1, dtype=torch.float64), torch.tensor([0, 2]), (-2.0, 2.0)
    for guide in (
        ClassifierFree(Counting(), 3.0, 10, ends),
        ByClassifier(MIXTURE.denoise, part_of_the_mixture, 2.0, ends),
    ):
        assert (guide(x, log_snr, label).direction is not None) == guided
    unconditional = ClassifierFree(Counting(), -1.0, 10, ends)(x, log_snr, label).x0.flatten()
    assert unconditional.tolist() == ([10, 10] if guided else [0, 2])


def test_the_scale_multiplies_the_direction():
    """The direction itself is that of s = 1; the images of a batch do not change each other's."""
    x, label = torch.tensor([-0.3, 0.4], dtype=torch.float64).reshape(-1, 1, 1, 1), torch.tensor([0, 2])
    plain = MIXTURE.denoise(x, 1.0)
    once, twice = (ByClassifier(MIXTURE.denoise, part_of_the_mixture, s)(x, 1.0, label) for s in (1.0, 2.0))
    torch.testing.assert_close(twice.direction, once.direction)
    torch.testing.assert_close(twice.x0 - plain, 2 * (once.x0 - plain))


def test_the_known_part_is_kept_and_the_guidance_passed_on():
    known, keep = torch.full((1, 4, 4), 0.7), torch.zeros(1, 4, 4, dtype=torch.bool)
    keep[:, :, :2] = True
    denoise = ClassifierFree(Counting(), 1.0, null_label=10)
    inner, outer = denoise(X, 0.0, LABEL), KeepKnown(denoise, known, keep)(X, 0.0, LABEL)
    assert (outer.x0[..., :2] == 0.7).all() and torch.equal(outer.x0[..., 2:], inner.x0[..., 2:])
    assert torch.equal(outer.direction, inner.direction)


def test_each_image_has_its_own_log_snr_and_place_in_the_interval():
    """A batch of log-SNRs, of which the interval contains one, is guided as its images are one at a time."""
    x, label = torch.tensor([-0.3, 0.4, 0.1], dtype=torch.float64).reshape(-1, 1, 1, 1), torch.tensor([0, 2, 1])
    log_snrs = torch.tensor([-5.0, 0.5, 5.0], dtype=torch.float64)

    def conditional(x, log_snr, label):
        return MIXTURE.denoise(x, log_snr) * (1 + label.reshape(-1, 1, 1, 1))

    guides = [ClassifierFree(conditional, weight, 10, (-2.0, 2.0)) for weight in (-1.0, 0.0, 2.0)]
    for guide in (*guides, ByClassifier(MIXTURE.denoise, part_of_the_mixture, 2.0, (-2.0, 2.0))):
        together = guide(x, log_snrs, label)
        for k in range(3):
            alone = guide(x[k : k + 1], log_snrs[k].item(), label[k : k + 1])
            torch.testing.assert_close(together.x0[k : k + 1], alone.x0)
            if together.direction is not None:
                direction = torch.zeros_like(alone.x0) if alone.direction is None else alone.direction
                torch.testing.assert_close(together.direction[k : k + 1], direction)
