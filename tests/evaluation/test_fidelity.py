"""How closely a distilled model follows its teacher: the measure against a student that is exact, and the shipped pair."""

from dataclasses import replace

import pytest
import torch
from conftest import SHIPPED, tiny_model, tiny_student

from ddpm_demo import load
from ddpm_demo.diffusion.distillation import Distilled, compose_two_steps
from ddpm_demo.diffusion.guidance import ClassifierFree, split_estimate
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation import fidelity
from ddpm_demo.evaluation.__main__ import main
from ddpm_demo.generation.generate import sampling_range


class Exact:
    """The denoiser of a student that has learned the finest steps of its guided teacher without any error."""

    def __init__(self, teacher, known, added=0.0):
        self.teacher, self.known, self.grid, self.added = teacher, known, known.grid(sampling_range(teacher)), added

    def __call__(self, x, log_snr, rows):
        label, weight, size = self.known.split_rows(rows)
        assert (size == len(self.known.steps) - 1).all()
        w = self.known.weights[weight[0]].item() + self.added
        guided = ClassifierFree(self.teacher.denoiser, w, self.teacher.null_label)
        begin = (self.grid - log_snr[0]).abs()[:-1].argmin().item()
        s, m, t = (end.expand(len(x)) for end in self.grid[begin : begin + 3])
        clip = lambda x, log_snr: split_estimate(guided(x, log_snr, label)).x0.clamp(-1, 1)  # noqa: E731
        return compose_two_steps(clip, x, s, m, t)


def test_an_exact_student_has_no_error_and_another_weight_has_some():
    teacher = tiny_model()
    known = Distilled(steps=(1, 2))
    student = replace(teacher, distilled=known, denoiser=Exact(teacher, known))
    for weight in (-1.0, 0.0, 2.0):
        assert fidelity.measure_steps(teacher, student, weight, 3).abs().max() < 1e-5
    student = replace(student, denoiser=Exact(teacher, known, added=0.5))
    assert fidelity.measure_steps(teacher, student, 2.0, 3).min() > 1e-3


def test_the_change_by_the_weight_is_compared_with_that_of_the_teacher(monkeypatch):
    teacher = tiny_model()
    student = tiny_student(teacher)
    pattern = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))

    def generate(model, labels, sampling):
        assert labels == [0, 1, 2] and (model is student or sampling.steps == 32)
        assert sampling.sampler == "ddim" and not sampling.autoguidance
        return sampling.weight * pattern * (sampling.steps / 16 if model is student else -1) + 0.25

    monkeypatch.setattr(fidelity, "generate", generate)
    found = fidelity.compare_changes(teacher, student, 2.0, 3)
    assert list(found) == [1, 2, 4, 8, 16]
    assert found[4] == pytest.approx((-1.0, 0.25)) and found[16] == pytest.approx((-1.0, 1.0))


def test_only_a_teacher_and_its_student_are_compared(capsys):
    teacher = tiny_model()
    student = tiny_student(teacher)
    for pair in ((student, student), (teacher, teacher), (tiny_model(classes=2), student)):
        with pytest.raises(UserError, match="distilled from it, with the same classes"):
            fidelity.tabulate_fidelity(*pair, 2)
    assert main(["fidelity", "a", "b", "--images", "0"]) == 2
    assert "images is 0" in capsys.readouterr().err


@pytest.mark.slow
def test_the_shipped_student_follows_its_teacher_as_closely_as_the_documentation_says():
    teacher, student = load(SHIPPED), load(SHIPPED.with_name("mnist-instant"))
    for weight, most in ((-1.0, 0.08), (0.0, 0.07), (1.0, 0.07), (4.0, 0.1)):
        errors = fidelity.measure_steps(teacher, student, weight, 10)
        assert len(errors) == 16 and errors.square().mean().sqrt() < most and errors.max() < 1.7 * most
    for weight in (-1.0, 2.0):
        for correlation, ratio in fidelity.compare_changes(teacher, student, weight, 10).values():
            assert correlation > 0.75 and 0.8 < ratio < 1.2
