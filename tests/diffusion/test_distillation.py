"""Distillation against cases whose solution is known: a Gaussian, for which every step of DDIM is a factor."""

from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny_model
from diffusers.training_utils import EMAModel
from torch import nn

from ddpm_demo.diffusion.denoiser import Denoiser, alpha_sigma
from ddpm_demo.diffusion.distillation import Distilled, compose_two_steps
from ddpm_demo.diffusion.guidance import ClassifierFree
from ddpm_demo.diffusion.samplers import step
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.models.adapters import adapt
from ddpm_demo.models.codec import Codec
from ddpm_demo.training.distillation import Distillation, FactoredEmbedding, build_student, choose_table

SCHEDULE = Schedule.named("cosine")
WIDTHS = torch.tensor([0.05, 0.1, 0.3], dtype=torch.float64)  # standard deviations of two classes, and of no class


def shrink(log_snr, label):
    """The factor k of the exact clean estimate D(x) = k x of a Gaussian of mean 0, one for each image."""
    alpha, sigma = alpha_sigma(log_snr)
    variance = WIDTHS[label] ** 2
    return alpha * variance / (alpha**2 * variance + sigma**2)


def guided_factor(log_snr, label, weight):
    """The factor of the guided estimate, which is linear, too."""
    return (1 + weight) * shrink(log_snr, label) - weight * shrink(log_snr, torch.full_like(label, 2))


def test_one_step_leads_to_where_two_steps_lead():
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64)
    s, m, t = -3.0, -1.2, 0.7
    D = lambda x, log_snr: x * 0.3 + torch.tanh(x + log_snr)  # noqa: E731, any function of x
    z = step(x, D(x, s), s, m)
    there = step(z, D(z, m), m, t)
    each = [torch.full((3,), value, dtype=torch.float64) for value in (s, m, t)]
    composed = compose_two_steps(lambda x, log_snr: D(x, log_snr.reshape(-1, 1, 1, 1)), x, *each)
    torch.testing.assert_close(step(x, composed, s, t), there)


def test_the_last_step_leads_to_the_clean_image():
    x = torch.randn(2, 1, 4, 4, dtype=torch.float64)
    each = [torch.full((2,), value, dtype=torch.float64) for value in (1.0, 2.0, float("inf"))]
    estimates = iter([x * 0.1, x * 0.2])
    assert torch.equal(compose_two_steps(lambda x, log_snr: next(estimates), x, *each), x * 0.2)


def test_the_grid_holds_the_steps_of_the_sampler_for_every_number_of_steps():
    distilled = Distilled()
    grid = distilled.grid(ALWAYS)
    assert grid[-1] == float("inf") and len(grid) == 33
    for steps in distilled.steps:
        torch.testing.assert_close(grid[:-1:][:: 32 // steps], SCHEDULE.grid(steps, within=ALWAYS))


class Known(nn.Module):
    """A network in the place of a diffusers U-Net that returns ``factor(log_snr, label) * x`` as its clean estimate."""

    def __init__(self, factor, embedding=None):
        super().__init__()
        self.config = SimpleNamespace(num_class_embeds=3, get=lambda name: None)
        self.factor, self.class_embedding = factor, embedding
        self.unused = nn.Parameter(torch.zeros(1))

    def forward(self, x, timestep, label, return_dict):
        factor = self.factor(SCHEDULE.log_snr(timestep), label)
        return (factor.reshape(-1, 1, 1, 1).to(x.dtype) * x,)


def exact_student(distilled, grid):
    """The factor of a student that has learned everything: its estimate leads to where all the finest steps lead."""

    def factor(log_snr, rows):
        label, weight, size = distilled.split_rows(rows)
        found = torch.empty(len(rows), dtype=torch.float64)
        for k in range(len(rows)):
            begin = (grid - log_snr[k]).abs()[:-1].argmin().item()
            stride = 2 * distilled.steps[-1] // distilled.steps[size[k]]
            w, x = distilled.weights[weight[k]], torch.ones(1, 1, 1, 1, dtype=torch.float64)
            y = x / alpha_sigma(grid[begin])[1]
            for i in range(begin, begin + stride):  # y = x / sigma moves by (r_t - r_s) * D
                s, t = grid[i], grid[i + 1]
                estimate = guided_factor(s, label[k : k + 1], w) * y * alpha_sigma(s)[1]
                if t.isinf():
                    found[k] = estimate
                    break
                y = y + (torch.exp(t / 2) - torch.exp(s / 2)) * estimate
            else:
                s, t = grid[begin], grid[begin + stride]
                found[k] = ((y - x / alpha_sigma(s)[1]) / (torch.exp(t / 2) - torch.exp(s / 2))).item()
        return found

    return factor


def build_distillation(distilled, student):
    """A distillation of the Gaussians' exact denoiser, whose averaged student is ``student``."""
    teacher = SimpleNamespace(
        denoiser=Denoiser(adapt(Known(shrink)), SCHEDULE, "sample"), codec=Codec(), null_label=2, device="cpu"
    )
    net = Known(student, SimpleNamespace(distilled=distilled))
    average = SimpleNamespace(copy_to=lambda parameters: None)
    return Distillation(teacher, net, average), Denoiser(adapt(net), SCHEDULE, "sample")


@pytest.mark.parametrize("wrong", [None, "weight", "size"])
def test_the_exact_student_has_no_loss_and_no_other_has(wrong):
    """The composed map of DDIM is known here, so the target is compared with it for all sizes, times and weights."""
    torch.manual_seed(0)
    distilled = Distilled(highest=2.0)
    grid = distilled.grid(ALWAYS)
    exact = exact_student(distilled, grid)

    def student(log_snr, rows):
        label, weight, size = distilled.split_rows(rows)
        weight = torch.full_like(weight, 10) if wrong == "weight" else weight
        size = torch.full_like(size, len(distilled.steps) - 1) if wrong == "size" else size
        return exact(log_snr, distilled.rows(label, weight, size))

    distillation, denoiser = build_distillation(distilled, student)
    x0 = torch.randn(64, 1, 2, 2).double() * 0.1
    losses = distillation.losses(denoiser, x0, torch.randint(2, (64,)))
    assert losses.shape == (64,)
    if wrong is None:
        assert losses.max() < 1e-6
    else:
        assert losses.max() > 1e-3


def test_the_finest_step_is_two_guided_steps_of_the_teacher():
    distilled = Distilled()
    distillation, _ = build_distillation(distilled, None)
    x, weight = torch.randn(4, 1, 2, 2).double(), torch.tensor([0, 10, 25, 90])
    label, size = torch.tensor([0, 1, 0, 1]), torch.full((4,), 4)
    at = distillation.grid[torch.tensor([[0, 10, 20, 28], [1, 11, 21, 29], [2, 12, 22, 30]])]
    goal = distillation.find_goals(x, at, label, weight, size)
    exact = lambda x, log_snr, label: shrink(log_snr, label).reshape(-1, 1, 1, 1) * x  # noqa: E731
    for k, w in enumerate(distilled.weights[weight].tolist()):
        guided, one, of_one = ClassifierFree(exact, w, null_label=2), x[k : k + 1], label[k : k + 1]
        s, m, t = at[:, k].tolist()
        middle = step(one, guided(one, s, of_one).x0.clamp(-1, 1), s, m)
        there = step(middle, guided(middle, m, of_one).x0.clamp(-1, 1), m, t)
        torch.testing.assert_close(step(one, goal[k : k + 1], s, t), there, rtol=1e-5, atol=1e-6)


def test_the_targets_are_computed_in_the_precision_of_the_training():
    teacher = tiny_model()
    net = build_student(teacher, teacher.label_names)
    x0, label, found = torch.randn(16, 4, 8, 8), torch.zeros(16, dtype=torch.int64), []
    for autocast in (nullcontext, partial(torch.autocast, "cpu", torch.bfloat16)):
        torch.manual_seed(0)
        distillation = Distillation(teacher, net, EMAModel(net.parameters()), autocast)
        found.append(distillation.losses(Denoiser(adapt(net), SCHEDULE, "v_prediction"), x0, label))
    assert not torch.equal(*found)
    torch.testing.assert_close(found[1], found[0], rtol=0.1, atol=1e-3)


def test_the_table_is_as_fine_as_the_size_of_the_file_allows():
    spacings = []
    for parameters in (1_000_000, 3_500_000, 4_650_000, 9_000_000):
        net = nn.Module()
        net.class_embedding, net.rest = nn.Embedding(11, 256), nn.Parameter(torch.zeros(parameters - 11 * 256))
        spacings.append(choose_table(net, 10).spacing)
    assert spacings == [0.05, 0.1, 0.25, 0.25]
    assert Distilled(spacing=0.25).nearest_weight(0.3) == 0.25 and Distilled().nearest_weight(9) == 8


def test_rows_number_every_class_weight_and_number_of_steps():
    distilled = Distilled(steps=(1, 2, 4))
    rows = torch.arange(distilled.count_rows(3))
    assert len(rows) == 3 * 181 * 3
    assert torch.equal(distilled.rows(*distilled.split_rows(rows)), rows)
    assert distilled.weights[distilled.index_weight(0)].item() == pytest.approx(0)
    assert distilled.weights[distilled.index_weight(7.3)].item() == pytest.approx(7.3)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"steps": 3}, "steps is 3; this distilled model takes 1, 2, 4, 8, 16 steps"),
        ({"weight": 0.24}, "weights from -1 to 8 in steps of 0.05"),
        ({"weight": 8.1}, "weights from -1 to 8 in steps of 0.05"),
        ({"sampler": "heun"}, "trained for the sampler ddim alone"),
        ({"interval": (-3.0, 3.0)}, "interval is -3 to 3; a distilled model is guided at all noise levels"),
        ({"schedule": "linear"}, "trained for the schedule cosine alone"),
        ({"classifier_scale": 1.0}, "contains its guidance"),
        ({"autoguidance": 1.0}, "autoguidance is 1; a distilled model contains its guidance"),
    ],
)
def test_settings_that_were_not_learned_are_refused_in_a_sentence(settings, words):
    with pytest.raises(UserError, match=words):
        Distilled().check(Sampling(**{"sampler": "ddim", "steps": 4} | settings))


def test_the_baked_table_holds_the_embeddings_of_the_student():
    distilled = Distilled(steps=(1, 2))
    embeddings = torch.randn(4, 8)  # of three classes, and without a label
    factored = FactoredEmbedding(embeddings, distilled)
    at_first = [factored(distilled.rows(torch.tensor([1]), distilled.index_weight(w), 1))[0] for w in (-1, -0.5, 0, 5)]
    torch.testing.assert_close(at_first, [embeddings[3], (embeddings[1] + embeddings[3]) / 2, *embeddings[[1, 1]]])
    for parameter in factored.parameters():
        nn.init.normal_(parameter)
    rows = torch.arange(distilled.count_rows(3))
    torch.testing.assert_close(factored.bake()(rows), factored(rows))
