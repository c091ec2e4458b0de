"""Points of the plane: the exact denoiser and its samples, guidance between two classes, and what a network learns."""

from math import exp, tanh

import pytest
import torch

from ddpm_demo.diffusion.denoiser import alpha_sigma
from ddpm_demo.diffusion.points import (
    MOST_POINTS,
    SHAPES,
    SPACING,
    PointCloud,
    build_shape,
    find_arrows,
    place_evenly,
    sample_points,
)
from ddpm_demo.diffusion.points_network import PointNetwork, train_on_points
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule
from ddpm_demo.errors import UserError

PAIR = PointCloud(((0, ((-1.0, 0.0),)), (1, ((1.0, 0.0),))))  # two classes of one point each


def end(denoise, cloud, **settings):
    *_, step = sample_points(denoise, cloud, Sampling(**{"steps": 50, "weight": 1.0} | settings), 300)
    return step.x0.flatten(1)


def test_the_ideal_denoiser_is_the_posterior_mean():
    """Bayes' rule point by point, for one class and for all."""
    cloud = build_shape("two classes")
    x = torch.tensor([[0.3, -0.2], [1.1, 0.7]])
    for log_snr in (-6.0, 0.0, 3.0):
        alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
        for label in (0, 1, 2):
            found = cloud.denoise(x[..., None, None], torch.tensor([log_snr] * 2), torch.tensor([label] * 2))
            for place, estimate in zip(x.tolist(), found.flatten(1).tolist()):
                points = [p for kind, stroke in cloud.strokes for p in stroke if label in (kind, 2)]
                weights = [exp(-sum((a - alpha * b) ** 2 for a, b in zip(place, p)) / (2 * sigma**2)) for p in points]
                mean = [sum(w * p[k] for w, p in zip(weights, points)) / sum(weights) for k in (0, 1)]
                assert estimate == pytest.approx(mean, abs=1e-4)
    torch.testing.assert_close(
        cloud.denoise(x[..., None, None], 0.0), cloud.denoise(x[..., None, None], 0.0, torch.full((2,), 2))
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_of_the_ideal_denoiser_end_on_the_drawn_points(sampler):
    for cloud in map(build_shape, ("spiral", "two classes")):
        samples = end(cloud.denoise, cloud, sampler=sampler, steps=100)
        assert cloud.measure_to_points(samples).median() < 0.01 * cloud.size
        assert cloud.measure_to_points(samples).quantile(0.9) < SPACING / 2


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_they_do_with_every_schedule(schedule):
    cloud = build_shape("smiley")
    samples = end(cloud.denoise, cloud, schedule=schedule, steps=100)
    assert cloud.measure_to_points(samples).median() < 0.01 * cloud.size
    reached = torch.cdist(samples, cloud.points).argmin(1).unique()
    assert len(reached) > 0.8 * len(cloud.points)  # all of the drawing, not a part


def test_points_of_a_class_end_on_points_of_the_class():
    cloud = build_shape("two classes")
    samples = end(cloud.denoise, cloud, weight=0.0)
    for label in (0, 1):
        own = torch.cdist(samples[label::2], cloud.points[cloud.labels == label]).amin(1)
        assert own.median() < 0.01 * cloud.size and own.max() < SPACING


@pytest.mark.parametrize("weight", [0.5, 3.0])
def test_guidance_between_two_classes_is_the_direction_of_the_formula(weight):
    """Two points at -1 and 1: D of a class is its point, D of both is tanh(alpha x / sigma^2) (Bayes' rule)."""
    places, log_snr = place_evenly(1.5, 5), 0.4
    alpha, sigma = (c.item() for c in alpha_sigma(log_snr))
    field, guidance = find_arrows(PAIR.denoise, PAIR, weight, places, log_snr)
    for label, point in enumerate((-1.0, 1.0)):
        for k, (x, y) in enumerate(places.tolist()):
            direction = point - tanh(alpha * x / sigma**2)
            assert guidance[label, k].tolist() == pytest.approx([direction, 0], abs=1e-5)
            assert field[label, k].tolist() == pytest.approx([point + weight * direction - x, -y], abs=1e-5)
    assert find_arrows(PAIR.denoise, PAIR, 0.0, places, log_snr)[1] is None
    spiral = build_shape("spiral")
    assert find_arrows(spiral.denoise, spiral, weight, places, log_snr)[1] is None  # one class: nothing to guide


def test_guidance_moves_points_away_from_the_other_class():
    cloud = build_shape("two classes")
    own = [end(cloud.denoise, cloud, weight=weight)[::2, 0].mean() for weight in (-1.0, 0.0, 2.0)]
    assert own[0] > own[1] + 0.2 and own[1] > own[2] + 0.1  # class 0 is at the left


def test_distances_to_points_and_to_lines():
    cloud = PointCloud(((0, ((-1.0, 0.0), (1.0, 0.0))), (1, ((0.0, 1.0),))))  # a line, and a single point
    x = torch.tensor([[0.0, 0.3], [1.0, 0.0], [1.3, 0.4], [0.0, 1.2]])
    torch.testing.assert_close(cloud.measure_to_lines(x), torch.tensor([0.3, 0.0, 0.5, 0.2]))
    torch.testing.assert_close(cloud.measure_to_points(x), torch.tensor([0.7, 0.0, 0.5, 0.2]))
    assert cloud.size == 2 and cloud.measure_spacing() == pytest.approx(2**0.5)
    assert PointCloud(((0, ((0.5, 0.5),)),)).measure_spacing() == 0


@pytest.mark.parametrize("name", SHAPES)
def test_points_of_a_shape_are_evenly_spaced(name):
    cloud = build_shape(name)
    for _, stroke in cloud.strokes:
        gaps = torch.tensor(stroke).diff(dim=0).norm(dim=1)
        assert gaps.min() > 0.85 * SPACING and gaps.max() < 1.15 * SPACING
    assert cloud == build_shape(name) and len(cloud.names) == (2 if name == "two classes" else 1)


@pytest.mark.parametrize(
    "strokes, words",
    [
        ((), "the drawing is empty"),
        (((0, ()),), "the drawing is empty"),
        (((0, ((0.0, 0.0),) * (MOST_POINTS + 1)),), "has 401 points; at most 400"),
        (((0, ((0.0, 1.6),)),), "outside of the sheet"),
        (((0, ((float("nan"), 0.0),)),), "outside of the sheet"),
        (((2, ((0.0, 0.0),)),), "whole number from 0 to 1"),
    ],
)
def test_a_wrong_drawing_is_refused(strokes, words):
    with pytest.raises(UserError, match=words):
        PointCloud(strokes)


def test_too_many_samples_are_refused():
    with pytest.raises(UserError, match="number of samples is 2001"):
        sample_points(PAIR.denoise, PAIR, Sampling(), 2001)


@pytest.fixture(scope="module")
def trained():
    cloud = build_shape("moons")
    return cloud, [*train_on_points(cloud, 400)]


def test_the_network_fills_the_lines_between_the_points(trained):
    """The ideal denoiser ends on the points. The network ends on the lines, spread between the points."""
    cloud, (*_, last) = trained
    samples = end(last.denoiser, cloud)
    to_points, to_lines = cloud.measure_to_points(samples).median(), cloud.measure_to_lines(samples).median()
    assert to_lines < SPACING / 6 < SPACING / 5 < to_points
    assert cloud.measure_to_points(end(cloud.denoise, cloud)).median() < SPACING / 10
    reached = torch.cdist(samples, cloud.points).argmin(1).unique()
    assert len(reached) > 0.8 * len(cloud.points)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_works_with_the_network(trained, sampler):
    cloud, (*_, last) = trained
    assert cloud.measure_to_lines(end(last.denoiser, cloud, sampler=sampler)).median() < SPACING / 3


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_schedule_works_with_the_network(trained, schedule):
    cloud, (*_, last) = trained
    assert cloud.measure_to_lines(end(last.denoiser, cloud, schedule=schedule)).median() < SPACING / 3


def test_a_training_reports_its_progress_and_its_loss_falls(trained):
    _, reports = trained
    assert [report.step for report in reports] == [*range(25, 401, 25)]
    assert reports[-1].loss < 0.85 * reports[0].loss
    assert not any(weight.requires_grad for weight in reports[-1].denoiser.net.parameters())


def test_a_training_can_be_repeated_and_leaves_other_random_numbers_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    cloud = build_shape("two classes")
    first, again, other = ([*train_on_points(cloud, 3, seed)][-1].denoiser.net.state_dict() for seed in (0, 0, 1))
    assert torch.rand(1) == expected
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["layers.0.weight"], other["layers.0.weight"])


def test_the_network_knows_its_classes():
    """Trained on two points, one of each class, it tells them apart."""
    *_, last = train_on_points(PAIR, 150)
    found = last.denoiser(torch.zeros(2, 2, 1, 1), -2.0, torch.tensor([0, 1]))[:, 0, 0, 0]
    torch.testing.assert_close(found, torch.tensor([-1.0, 1.0]), rtol=0, atol=0.25)


def test_the_network_also_learns_without_a_class():
    """The weights of the null label change only if some points of a batch come without their class."""
    new = PointNetwork(Schedule.named("cosine"), 2, torch.Generator().manual_seed(0)).layers[0].weight
    *_, last = train_on_points(PAIR, 1)
    assert not torch.equal(last.denoiser.net.layers[0].weight[:, -1], new[:, -1])
