"""The figures of quality, on cases whose answer is known."""

import numpy as np
import pytest
import torch

from ddpm_demo.data.datasets import Data, add_mirrored
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation import distances, samples
from ddpm_demo.evaluation import judge as judging


def gaussian(n, seed, scale=1.0, shift=0.0):
    """Features (n, 128) of correlated coordinates."""
    mixing = torch.randn(128, 128, generator=torch.Generator().manual_seed(9), dtype=torch.float64) / 10
    noise = torch.randn(n, 128, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return noise @ mixing * scale + shift


def test_a_set_is_at_no_distance_from_itself():
    features = gaussian(2000, 0)
    assert abs(distances.frechet_distance(distances.distance_to(features), features)) < 1e-4


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (0.5, 0.1), (2.0, -0.3)])
def test_the_frechet_distance_agrees_with_scipys_matrix_root(scale, shift):
    linalg = pytest.importorskip("scipy.linalg")
    real, fake = gaussian(3000, 0), gaussian(2000, 1, scale, shift)
    found = distances.frechet_distance(distances.distance_to(real), fake)
    c1, c2 = real.T.cov().numpy(), fake.T.cov().numpy()
    root = linalg.sqrtm(c1 @ c2).real
    expected = (real.mean(0) - fake.mean(0)).square().sum().item() + (c1 + c2 - 2 * root).trace()
    assert found == pytest.approx(expected, abs=1e-3, rel=1e-3)


def test_the_spread_is_that_of_fresh_samples():
    real = distances.distance_to(gaussian(5000, 0))
    fresh = (
        torch.tensor([distances.frechet_distance(real, gaussian(1000, seed, 1.2)) for seed in range(1, 21)])
        .std()
        .item()
    )
    said = distances.bootstrap_deviation(real, gaussian(1000, 99, 1.2))
    assert fresh / 2 < said < fresh * 2


def test_a_resample_is_as_large_as_the_set(monkeypatch):
    """For a mean in place of the distance, the deviation over resamples is known: 1 / sqrt(n)."""
    monkeypatch.setattr(distances, "frechet_distance", lambda metric, features: features.mean().item())
    points = torch.randn(400, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert distances.bootstrap_deviation(None, points) == pytest.approx(0.05, rel=0.4)


def test_precision_and_recall_of_constructed_sets():
    left, right = gaussian(400, 0, 0.1), gaussian(400, 1, 0.1, shift=50.0)
    both = torch.cat([left, right])
    assert distances.precision_recall(both, both) == (1, 1)
    precision, recall = distances.precision_recall(both, torch.cat([left, gaussian(400, 2, 0.1)]))  # one mode is lost
    assert precision > 0.8 and 0.45 < recall < 0.55
    precision, recall = distances.precision_recall(left, torch.cat([left[:200], right[:200]]))  # half of it is strange
    assert 0.45 < precision < 0.55 and recall > 0.8
    assert distances.precision_recall(left, gaussian(400, 3, 0.1, shift=-50.0)) == (0, 0)


def images(n, seed):
    pixels = torch.randint(0, 256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return Data(pixels, torch.arange(n) % 10, tuple("0123456789"))


def test_the_nearest_image_is_found():
    among = images(5000, 0)
    wanted = torch.tensor([4999, 0, 1234])
    distance, index = distances.find_nearest(among.batch(wanted)[0] + 0.01, among)
    assert index.tolist() == wanted.tolist()
    assert torch.allclose(distance, torch.full((3,), 0.01), atol=2e-3)


def test_a_model_that_recites_is_found_out():
    judge = judging.Judge.__new__(judging.Judge)
    train, test = images(1000, 0), images(500, 1)
    judge.test = judging.Classified(test.batch(torch.arange(500))[0], None, None)
    recited = judge.measure_memorisation(train.batch(torch.arange(300))[0], train)
    honest = judge.measure_memorisation(images(300, 2).batch(torch.arange(300))[0], train)
    assert recited["median"] < 1e-3 and recited["closer_than_99_percent_of_test_images"] == 1
    assert honest["closer_than_99_percent_of_test_images"] < 0.05
    assert honest["median"] == pytest.approx(honest["median_of_test_images"], rel=0.02)


def test_mirrored_training_images_count_as_seen_where_the_training_mirrors():
    """Samples that are mirrored training images, made and compared pixel by pixel in NumPy."""
    judge = judging.Judge.__new__(judging.Judge)
    train, test = images(200, 0), images(100, 1)
    judge.test = judging.Classified(test.batch(torch.arange(100))[0], None, None)
    mirrored = torch.from_numpy(train.images.numpy()[:50, :, :, ::-1].copy()).float() / 127.5 - 1
    plain = judge.measure_memorisation(mirrored, train)
    flipped = judge.measure_memorisation(mirrored, add_mirrored(train))
    assert plain["closer_than_99_percent_of_test_images"] < 0.1 and plain["median"] > 0.5
    assert flipped["closer_than_99_percent_of_test_images"] == 1 and flipped["median"] < 1e-3
    sheet = np.asarray(samples.draw_nearest(mirrored[:10], add_mirrored(train)))
    assert (sheet[:28] == sheet[28:]).all()  # the mirrored training image is shown below its sample


def test_the_reference_has_the_classes_in_turn_as_samples_have():
    data = images(1000, 0)
    found = judging.choose_by_class(data, 253)
    assert len(set(found.tolist())) == 253
    assert torch.bincount(data.labels[found]).tolist() == [26, 26, 26, 25, 25, 25, 25, 25, 25, 25]
    unlabelled = Data(data.images, torch.zeros(1000, dtype=torch.int64), ())
    assert len(judging.choose_by_class(unlabelled, 253)) == 253


@pytest.mark.parametrize("raised, said", [
    (ModuleNotFoundError("no"), "pip install torch-fidelity"), (OSError("offline"), "could not be downloaded .OSError"),
])  # fmt: skip
def test_inception_weights_that_cannot_be_had_are_said_so(monkeypatch, raised, said):
    def fail(**_):
        raise raised

    monkeypatch.setattr(distances, "FrechetInceptionDistance", fail)
    with pytest.raises(UserError, match=said):
        distances.inception_metric()


def test_inception_takes_images_as_it_wants_them(monkeypatch):
    """Three channels, 0 to 1; the network itself stands in for the one that cannot be had here."""

    class Colours(torch.nn.Module):
        num_features = 3

        def forward(self, x):
            assert x.shape[1:] == (3, 28, 28) and x.min() >= 0 and x.max() <= 1
            return x.double().mean((2, 3)) + torch.randn(len(x), 3, generator=torch.Generator().manual_seed(0))

    real = images(300, 0)
    metric = distances.FrechetInceptionDistance(feature=Colours(), normalize=True)
    fid = [distances.inception_fid(metric, real, real.batch(torch.arange(300))[0] * scale) for scale in (1, 1, 0.1)]
    assert fid[0] == pytest.approx(fid[1], abs=1e-6) and abs(fid[0]) < 1e-6


def test_pixels_become_colours_between_zero_and_one():
    found = distances.to_colour(torch.tensor([-1.5, -1.0, 0.0, 0.5, 1.0, 1.5]).reshape(1, 1, 2, 3))
    assert found.shape == (1, 3, 2, 3)
    assert all(channel.flatten().tolist() == [0, 0, 0.5, 0.75, 1, 1] for channel in found[0])


def test_a_neighbour_at_the_distance_of_the_radius_counts():
    """Points on a line, by hand (Kynkaanniemi et al. 2019, eq. 1: at most the distance of the k-th other point)."""
    line = torch.tensor([[0.0], [1.0], [3.0], [6.0]], dtype=torch.float64)
    assert [distances.neighbour_distance(line, k).tolist() for k in (1, 3)] == [[1, 1, 2, 3], [6, 5, 3, 6]]
    points = torch.tensor([[-1.0], [2.0], [9.1]], dtype=torch.float64)
    assert distances.covered_fraction(points, line, distances.neighbour_distance(line, 1)) == pytest.approx(2 / 3)


class Pixels(torch.nn.Module):
    """A classifier whose features are the pixels; the class is the brighter half of the image."""

    def features(self, images):
        return images.flatten(1)

    def head(self, features):
        return torch.stack([half.mean(1) for half in features.chunk(2, 1)], 1)


def halves(n, seed, spread=20.0, shift=0.0):
    """Images of two classes by turns, of 128 pixels; the label is the half that is brighter."""
    noise = torch.randn(n, 1, 8, 16, generator=torch.Generator().manual_seed(seed)) * spread + 128 + shift
    labels = torch.arange(n) % 2
    bright = (torch.arange(8)[:, None] // 4).expand(8, 16) == labels[:, None, None, None]
    return Data((noise + 40 * bright).clamp(0, 255).byte(), labels, ("upper", "lower"))


def frechet(a, b):
    """The distance of two sets of images, on their pixels, by scipy."""
    linalg = pytest.importorskip("scipy.linalg")
    a, b = (data.batch(torch.arange(len(data)))[0].flatten(1).double() for data in (a, b))
    c1, c2 = a.T.cov().numpy(), b.T.cov().numpy()
    return (a.mean(0) - b.mean(0)).square().sum().item() + (c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real).trace()


def test_every_figure_is_that_of_its_own_two_sets():
    train, test, fake = halves(500, 0), halves(300, 1, shift=2.0), halves(200, 2, spread=17.0)
    judge = judging.Judge(Pixels(), train, test)
    images = fake.batch(torch.arange(200))[0]
    classified = judging.judge_images(Pixels(), images)
    assert classified.features.dtype == torch.float64 and torch.equal(classified.features.float(), images.flatten(1))
    labels = fake.labels ^ (torch.arange(200) % 5 == 0)  # a fifth of them is another than the image's
    found = judge.measure(classified, labels)
    assert found["fid_test"] == pytest.approx(frechet(test, fake), rel=1e-3)
    assert found["fid_train"] == pytest.approx(frechet(train, fake), rel=1e-3)
    assert judge.floor == pytest.approx(frechet(train, test), rel=1e-3)
    correct = (images[:, :, 4:].mean((1, 2, 3)) > images[:, :, :4].mean((1, 2, 3))).long() == labels
    share = correct.double().mean().item()
    assert 0.6 < share < 0.9 and found["accuracy"] == pytest.approx(share)
    assert found["spread"]["accuracy"] == pytest.approx((share * (1 - share) / 200) ** 0.5)
    spread = distances.bootstrap_deviation(distances.distance_to(judge.test.features), classified.features)
    assert found["spread"]["fid_test"] == pytest.approx(spread, rel=1e-6)
    chosen = judge.test.features[judging.choose(300, 200)]
    expected = distances.precision_recall(chosen, classified.features)
    assert (found["precision"], found["recall"]) == expected and expected[0] != expected[1]
    real = Data(
        *(part[judging.choose_by_class(train, 200)] for part in (train.images, train.labels)), train.label_names
    )
    assert found["reference"]["fid_test"] == pytest.approx(frechet(test, real), rel=1e-3)
    rebuilt = judge.measure_reconstructions(test.batch(torch.arange(300))[0].flip(2))
    assert rebuilt["accuracy"] == pytest.approx(0, abs=0.01)  # upside down, every class is the other one
    assert judge.measure_reconstructions(test.batch(torch.arange(300))[0])["fid_train"] == pytest.approx(judge.floor)


def test_one_percent_of_the_test_images_are_closer_than_the_limit():
    """Samples that are the test images themselves: the share closer than 99 percent of these is one percent."""
    judge = judging.Judge.__new__(judging.Judge)
    train, test = images(500, 0), images(400, 1)
    judge.test = judging.Classified(test.batch(torch.arange(400))[0], None, None)
    found = judge.measure_memorisation(judge.test.images, train)
    assert found["closer_than_99_percent_of_test_images"] == pytest.approx(0.01, abs=0.003)
    assert found["median"] == found["median_of_test_images"]


def test_the_reference_images_of_a_part_have_all_classes():
    """With fewer test images than samples, precision and recall use only the first of the reference images."""
    labels = torch.arange(4000) % 10
    images = Data(torch.zeros(4000, 1, 1, 1, dtype=torch.uint8), labels.sort().values, tuple("abcdefghij"))
    chosen = images.labels[judging.choose_by_class(images, 2000)]
    assert chosen.bincount().tolist() == [200] * 10
    assert chosen[:300].bincount(minlength=10).min() > 15
