"""The judge, on images whose answer is known, and the command as a user runs it."""

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SHIPPED, run, tiny_model
from PIL import Image

from ddpm_demo.data import datasets as data
from ddpm_demo.data.images import fit_image
from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import ALWAYS, Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES
from ddpm_demo.errors import UserError
from ddpm_demo.evaluation import __main__ as evaluation
from ddpm_demo.evaluation import compare, maps, restoration, samples
from ddpm_demo.evaluation import judge as judging
from ddpm_demo.evaluation.beside import count_images
from ddpm_demo.evaluation.bits_per_dim import LikelihoodOptions
from ddpm_demo.evaluation.compare import compare_best
from ddpm_demo.evaluation.maps import BASE
from ddpm_demo.evaluation.subject import open_checkpoint
from ddpm_demo.files import hash_file, identify_model
from ddpm_demo.generation.generate import generate
from ddpm_demo.models import checkpoint, classifier
from ddpm_demo.models.adapters import adapt
from ddpm_demo.models.codec import LatentCodec
from ddpm_demo.models.networks import build_unet
from ddpm_demo.reports.results import Metrics, find, read_metrics
from ddpm_demo.training import autoencoder, classifiers


@pytest.fixture(scope="module")
def images(mnist_dir):
    return data.load("mnist", mnist_dir), data.load("mnist", mnist_dir, "test")


@pytest.fixture(scope="module")
def judge(images):
    for _, trained in classifiers.fit(classifiers.JUDGE, images[0], epochs=6, batch_size=32):
        pass
    return trained.eval()


@pytest.fixture
def folder(judge, images, tmp_path):
    """A tiny checkpoint of the tiny MNIST, its judge beside it."""
    names = images[0].label_names
    training = {"classes": [], "prediction": "v_prediction", "schedule": "cosine", "steps": 0, "seconds": 0.0,
                "dataset": "mnist", "device": "cpu", "flip": False}  # fmt: skip
    model = replace(tiny_model(classes=10, size=28), dataset="mnist", label_names=names, training=training)
    checkpoint.save(model, tmp_path)
    classifier.save_classifier(judge, tmp_path, names, 0.99)
    return tmp_path


def cells(folder):
    return json.loads((folder / "metrics.json").read_text())["quality"]


def evaluate(folder, mnist_dir, subcommand, *more):
    """The command, in this process."""
    few = () if subcommand in ("likelihood", "restore") else ("--samples", "256")
    return evaluation.main([subcommand, "--checkpoint", str(folder), "--data-dir", str(mnist_dir), *few, *more])


def test_the_classifier_learns_and_is_kept(judge, images, tmp_path):
    correct = classifiers.accuracy(judge, images[1])
    assert correct > 0.9
    classifier.save_classifier(judge, tmp_path, images[1].label_names, correct)
    again, said = classifier.load_classifier(tmp_path)
    assert said == correct == classifiers.accuracy(again, images[1])
    with pytest.raises(UserError, match="classifier.safetensors is missing: train it with"):
        classifier.load_classifier(tmp_path / "none")


def test_real_images_are_judged_well_and_noise_badly(judge, images):
    train, test = images
    measured = judging.Judge(judge, train, test)
    real, labels = train.batch(torch.arange(len(train)))
    noise = torch.rand(real.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    good, bad = (measured.measure(judging.judge_images(judge, x), labels) for x in (real, noise))
    assert good["accuracy"] > 0.95 > 0.3 > bad["accuracy"]
    assert good["fid_train"] == pytest.approx(0, abs=1e-4) and bad["fid_train"] > 10 * good["fid_test"]
    assert good["fid_test"] == pytest.approx(good["reference"]["fid_test"], rel=0.05)
    assert good["precision"] > 0.5 > bad["precision"] and good["spread"]["accuracy"] < 0.02


def test_the_judges_labels_are_matched_by_name(judge, mnist_dir, tmp_path):
    """A judge of ("1", "7"), for the real images of ("7", "1")."""
    trained, kept = copy.deepcopy(judge), [1, 7]
    trained.head.weight.data, trained.head.bias.data = judge.head.weight.data[kept], judge.head.bias.data[kept]
    classifier.save_classifier(trained, tmp_path, ("1", "7"), 0.99)
    train, test = (data.load("mnist", mnist_dir, split, classes=("7", "1")) for split in ("train", "test"))
    matched = judging.Judge(classifier.load_classifier(tmp_path, train.label_names)[0], train, test)
    assert matched.accuracy > 0.9
    real = judging.judge_images(matched.classifier, train.batch(torch.arange(len(train)))[0])
    assert (real.predicted == train.labels).double().mean() > 0.95
    with pytest.raises(UserError, match="does not know the labels 3, 4; it knows 1, 7"):
        classifier.load_classifier(tmp_path, ("3", "1", "4"))


def test_a_judge_of_more_classes_judges_a_part_of_them(judge, images, mnist_dir, tmp_path):
    classifier.save_classifier(judge, tmp_path, images[0].label_names, 0.99)
    train, test = (data.load("mnist", mnist_dir, split, classes=("8", "3")) for split in ("train", "test"))
    part = judging.Judge(classifier.load_classifier(tmp_path, train.label_names)[0], train, test)
    assert part.accuracy > 0.8
    others = judging.judge_images(part.classifier, images[0].batch(torch.arange(320))[0])
    assert (others.predicted < 2).double().mean() < 0.3  # the other eight classes are none of the two


def test_the_models_classes_are_matched_by_name(judge, images):
    """The model numbers its classes in the opposite order: image k is asked for by the model's own number."""
    names = images[0].label_names[::-1]
    model, setting = replace(tiny_model(classes=10, size=28), label_names=names), Sampling(steps=1)
    measured = judging.Judge(judge, *images)
    with samples.plan_bar(model, [(setting, 12)]) as bar:
        _, labels = samples.draw(model, measured, setting, 12, bar)
    assert labels.tolist() == [9, 8, 7, 6, 5, 4, 3, 2, 1, 0, 9, 8]
    with pytest.raises(UserError, match="the model draws the classes ten, but the dataset has 0, 1"):
        samples.number_classes(replace(model, label_names=("ten", *names[1:])), images[1])


def test_a_judge_of_other_images_is_refused(folder, judge, mnist_dir, tmp_path, capsys):
    colour = classifier.Classifier(3, 10)
    place = tmp_path / "colour"
    classifier.save_classifier(colour, place, tuple("0123456789"), 0.5)
    assert evaluate(folder, mnist_dir, "samples", "--classifier", str(place)) == 2
    assert "is for images of 3 channels" in capsys.readouterr().err
    assert evaluate(tmp_path / "none", mnist_dir, "samples") == 2
    assert "is not a folder with a checkpoint" in capsys.readouterr().err


@pytest.mark.slow
def test_the_command_measures_and_writes(folder, mnist_dir):
    command = ("-m", "ddpm_demo.evaluation", "samples", "--checkpoint", folder, "--data-dir", mnist_dir, "--steps", "2")
    finished = run(*command, "--samples", "256", "--weight", "0", "1")
    assert finished.returncode == 0, finished.stderr
    assert [cell["setting"]["weight"] for cell in cells(folder)] == [0.0, 1.0]
    for cell in cells(folder):
        assert cell["fid_test"] > 0 and 0 <= cell["accuracy"] <= 1 and 0 <= cell["recall"] <= 1
        assert cell["setting"] == {
            "sampler": "dpm++2m", "schedule": "cosine", "steps": 2, "weight": cell["setting"]["weight"],
            "interval": [-20.0, 20.0], "variance": "posterior", "classifier_scale": 0.0, "autoguidance": 0.0, "corrector_snr": 0.16,
            "ode_tolerance": 1e-3, "seed": 0, "samples": 256,
        }  # fmt: skip
    assert "classified as requested" in finished.stdout + finished.stderr
    assert "## Measured by" in (folder / "README.md").read_text() and (folder / "nearest.png").is_file()
    refused = run(*command, "--samples", "20")
    assert refused.returncode == 2 and "samples is 20" in refused.stderr and "Traceback" not in refused.stderr


@pytest.mark.slow
def test_what_is_measured_is_not_measured_again(folder, mnist_dir, capsys):
    wanted = ("--steps", "1", "--weight", "0")
    assert evaluate(folder, mnist_dir, "samples", *wanted) == 0
    first = cells(folder)
    assert evaluate(folder, mnist_dir, "samples", *wanted) == 0
    assert "1 of 1 settings are measured already" in capsys.readouterr().out and cells(folder) == first
    assert evaluate(folder, mnist_dir, "samples", *wanted, "--again") == 0
    figures = [{k: v for k, v in found[0].items() if k != "seconds"} for found in (first, cells(folder))]
    assert figures[0] == figures[1]  # the same seed: the same figures, to the last digit
    assert evaluate(folder, mnist_dir, "samples", *wanted, "--seed", "7") == 0
    assert cells(folder)[1]["fid_test"] != first[0]["fid_test"]


def test_samples_are_drawn_beside_test_images_of_the_same_classes(folder, images, mnist_dir, capsys):
    command = ["beside", "--checkpoint", str(folder), "--data-dir", str(mnist_dir)]
    assert evaluation.main(command) == 2 and "was not measured: python -m" in capsys.readouterr().err
    metrics, best = Metrics(folder), Sampling(steps=2, weight=1.0, seed=7)
    metrics.set_judge("digest", 0.9, 0.1)
    for sampling, fid in ((Sampling(steps=1), 0.5), (best, 0.2)):
        cell = {"fid_test": fid, "spread": {"fid_test": 0.01}, "reference": {"fid_test": 0.1}}
        metrics.add(sampling, 256, cell)
    assert evaluation.main(command) == 0
    with Image.open(folder / "beside.png") as sheet:
        tiles = [sheet.crop((x, y, x + 28, y + 28)) for y in range(0, sheet.height, 28) for x in range(0, 280, 28)]
    drawn, real = ([fit_image(tile, 1, 28) for tile in half] for half in (tiles[:40], tiles[40:]))
    asked = generate(checkpoint.load(folder), labels=[k % 10 for k in range(40)], steps=2, weight=1.0, seed=7)
    torch.testing.assert_close(torch.stack(drawn), asked.clamp(-1, 1), atol=0.01, rtol=0)
    found, _ = images[1].batch(torch.arange(40))
    places = [[k for k, image in enumerate(found) if torch.equal(image, tile)] for tile in real]
    assert all(place and images[1].labels[place[0]] == k % 10 for k, place in enumerate(places))
    assert sorted(x.tolist() for x in real) == sorted(x.tolist() for x in found)  # each once
    assert Metrics(folder).content["beside"]["setting"] == best.as_dict() | {"samples": 40}


def test_a_picture_needs_a_row_of_test_images(images):
    few = data.Data(images[1].images[:7], images[1].labels[:7], images[1].label_names)
    with pytest.raises(UserError, match="there are only 7"):
        count_images(few, None)
    with pytest.raises(UserError, match="there are only 0"):
        count_images(few, torch.arange(10))


def test_other_weights_start_a_new_file(folder, mnist_dir, capsys):
    evaluate(folder, mnist_dir, "samples", "--steps", "1", "--weight", "0")
    model = checkpoint.load(folder)
    with torch.no_grad():
        next(model.denoiser.net.parameters()).add_(0.5)
    checkpoint.save(model, folder)
    evaluate(folder, mnist_dir, "samples", "--steps", "2", "--weight", "0")
    assert "belongs to other weights" in capsys.readouterr().out
    assert [cell["setting"]["steps"] for cell in cells(folder)] == [2]


def test_a_map_that_was_interrupted_goes_on(folder, mnist_dir, monkeypatch, capsys):
    monkeypatch.setattr(
        maps, "SLICES", {"a": {"steps": [1, 2], "weight": [0.0]}, "b": {"weight": [0.0, 1.0], "steps": [2]}}
    )
    drawn, draw = [], samples.draw

    def interrupted(model, judge, sampling, *rest):
        drawn.append(sampling)
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return draw(model, judge, sampling, *rest)

    monkeypatch.setattr(samples, "draw", interrupted)
    assert evaluate(folder, mnist_dir, "map") == 130
    assert "the same command goes on" in capsys.readouterr().err and len(cells(folder)) == 1
    assert evaluate(folder, mnist_dir, "map") == 0
    assert len(drawn) == 4 and len(cells(folder)) == 3
    assert "1 of 3 settings are measured already" in capsys.readouterr().out


def test_the_map_is_as_promised():
    plan = list(maps.plan_map(512))
    settings = [setting for setting, _ in plan]
    assert all(settings.count(setting) == 1 for setting in settings)
    assert {s.sampler for s in settings} == set(SAMPLERS) - {"ode"} and {s.schedule for s in settings} == set(SCHEDULES)
    assert {s.steps for s in settings} >= {3, 1000} and {s.weight for s in settings} >= {-1, 8}
    assert all(count == (512 if s.steps <= 50 else 256) for s, count in plan)
    assert {s.autoguidance for s in settings if not s.weight} >= {0, 0.5, 4}
    assert len({s.interval for s in settings}) == 4 and {s.variance for s in settings} == {"posterior", "beta"}


@pytest.mark.parametrize("sampler, weight, steps, interval", [
    ("heun", 1.0, 3, ALWAYS), ("ddim", 0.0, 3, ALWAYS), ("ddpm", -1.0, 2, ALWAYS), ("ddim", 1.0, 3, (-3.0, 3.0)),
])  # fmt: skip
def test_progress_counts_the_evaluations_that_are_made(model, judge, images, sampler, weight, steps, interval):
    setting = Sampling(sampler=sampler, weight=weight, steps=steps, interval=interval, seed=3)
    model = replace(tiny_model(classes=10, size=28), label_names=images[0].label_names)
    measured = judging.Judge(judge, *images)
    with samples.plan_bar(model, [(setting, 70)]) as bar:
        drawn, labels = samples.draw(model, measured, setting, 70, bar)
        assert bar.n == bar.total
    options = {"sampler": sampler, "weight": weight, "steps": steps, "interval": interval}
    alone = generate(model, [labels[69].item()], seed=3 + 69, **options)
    torch.testing.assert_close(drawn.images[69:], alone, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("wrong, said", [
    (("samples", "--steps", "0"), "steps is 0"), (("samples", "--weight", "nan"), "weight is nan"),
    (("samples", "--interval", "3", "1"), "interval is"), (("over-time",), "train.py --snapshots"),
    (("samples", "--seed", "-1"), "seed is -1"), (("map", "--seed", "-1"), "seed is -1"),
    (("restore", "--seed", "-1"), "seed is -1"), (("restore", "--images", "0"), "images is 0"),
])  # fmt: skip
def test_a_mistake_is_a_sentence(folder, mnist_dir, capsys, wrong, said):
    assert evaluate(folder, mnist_dir, *wrong) == 2
    assert said in capsys.readouterr().err


def test_a_cell_is_found_by_its_setting(folder):
    metrics = Metrics(folder)
    narrow = replace(BASE, interval=(-3.0, 3.0))
    metrics.add(BASE, 500, {"fid_test": 1})
    metrics.add(narrow, 500, {"fid_test": 2})
    metrics.add(BASE, 900, {"fid_test": 3})
    again = Metrics(folder)
    assert len(again.content["quality"]) == 2 and find(again.content["quality"], BASE)["fid_test"] == 3
    assert again.has(BASE, 900) and not again.has(BASE, 901)
    assert not again.has(replace(BASE, seed=1), 100) and again.has(narrow, 100)


@pytest.mark.parametrize("stored, wanted, found", [
    ({"weight": 0.0}, {"interval": (-3.0, 3.0)}, True),  # nothing is guided: the interval has no effect
    ({"weight": 0.0, "interval": (-3.0, 3.0)}, {"interval": ALWAYS}, True),
    ({"weight": -1.0}, {"interval": (-3.0, 3.0)}, False),  # outside the interval the label is used
    ({"weight": 1.0}, {"interval": (-torch.inf, torch.inf)}, True),
    ({"weight": 0.0, "classifier_scale": 1.0}, {"interval": (-3.0, 3.0)}, False),
    ({"sampler": "ddim"}, {"variance": "beta", "corrector_snr": 0.5, "ode_tolerance": 0.1}, True),
    ({"sampler": "ddpm"}, {"variance": "beta"}, False),
    ({"sampler": "pc"}, {"corrector_snr": 0.5}, False),
])  # fmt: skip
def test_a_field_without_effect_does_not_hide_a_cell(stored, wanted, found):
    cell = {"setting": Sampling(**stored).as_dict() | {"samples": 256}}
    assert (find([cell], Sampling(**stored | wanted)) is cell) is found
    assert find([cell], Sampling(**stored | wanted), *wanted) is cell  # where the fields that differ are left free


def test_a_cell_is_found_that_is_older_than_a_field():
    """Every field that is missing in a cell has its default: so a new field hides no figures."""
    whole = BASE.as_dict() | {"samples": 256}
    for name in BASE.as_dict():
        old = {"setting": {key: value for key, value in whole.items() if key != name}}
        assert find([old], replace(BASE, **{name: getattr(Sampling(), name)})) is old


def test_every_field_has_a_flag():
    options = evaluation.command_line().parse_args(["samples"])
    assert evaluation.read_settings(options) == [Sampling(weight=0.0), BASE]
    given = {"--sampler": "pc", "--schedule": "linear", "--steps": "7", "--weight": "2", "--variance": "beta",
             "--classifier-scale": "3", "--autoguidance": "0.5", "--corrector-snr": "0.2", "--ode-tolerance": "0.01", "--seed": "5"}  # fmt: skip
    flags = [word for pair in given.items() for word in pair]
    for subcommand in ("samples", "over-time"):
        options = evaluation.command_line().parse_args([subcommand, *flags, "--interval", "-3", "4"])
        assert evaluation.read_settings(options) == [
            Sampling("pc", "linear", 7, 2.0, (-3.0, 4.0), "beta", 3.0, 0.5, 0.2, 0.01, 5)
        ]
    options = evaluation.command_line().parse_args(["samples", "--steps", "2", "3", "--seed", "0", "1"])
    assert len(evaluation.read_settings(options)) == 8


def test_settings_that_draw_the_same_images_are_measured_once():
    plan = [(sampling, 256) for sampling in maps.combine({"sampler": ["ddim"], "variance": ["posterior", "beta"]})]
    assert samples.fit_to_model(plan, tiny_model(classes=10, size=28)) == plan[:1]
    unguided = samples.fit_to_model([(one, 256) for one in maps.combine({"weight": [0.0, 1.0]})], tiny_model(classes=0))
    assert unguided == [(Sampling(), 256)]


def test_a_classifier_alone_can_guide_an_unconditional_network():
    model = replace(tiny_model(classes=0), noisy_classifier=SimpleNamespace(label_names=("a", "b", "c")))
    asked = maps.combine({"weight": [-1.0, 0.0, 1.0], "classifier_scale": [0.0, 2.0]})
    plan = samples.fit_to_model([(one, 256) for one in asked], model)
    assert [one for one, _ in plan] == [Sampling(), Sampling(classifier_scale=2.0)]


@pytest.mark.parametrize("size", [28, 30, 33])
def test_the_hole_is_what_is_compared(size):
    hole = restoration.compared_part(torch.arange(size * size).reshape(1, 1, size, size), "complete")
    assert torch.equal(hole.flatten(), (~restoration.middle_hole(size)).flatten().nonzero().flatten())
    assert restoration.tasks_of(tiny_model()) == ("complete",)


@pytest.mark.parametrize("wrong", [{"images": 1}, {"draws": 0}, {"ode_images": 1}, {"tolerance": 9.0}, {"seed": -1}])
def test_a_likelihood_that_cannot_be_measured_is_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=f"^--{name.replace('_', '-')} is "):
        LikelihoodOptions(**wrong)


@pytest.mark.slow
def test_several_processes_find_the_same(folder, mnist_dir):
    command = ("ddpm_demo.evaluation", "samples", "--checkpoint", folder, "--data-dir", mnist_dir, "--steps", "2", "--weight", "1",
               "--samples", "300", "--again")  # fmt: skip
    assert run("-m", *command).returncode == 0
    alone = cells(folder)[0]
    launch = ("-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "-m", *command)
    finished = run(*launch, timeout=300, OMP_NUM_THREADS="1")
    assert finished.returncode == 0, finished.stderr
    together = cells(folder)[0]
    assert together["fid_test"] == pytest.approx(alone["fid_test"], rel=1e-4)
    assert together["accuracy"] == alone["accuracy"] and finished.stdout.count("the judge reads") == 1


@pytest.mark.slow
def test_snapshots_are_measured_over_time(judge, images, mnist_dir, tmp_path):
    folder = tmp_path / "run"
    small = ("--widths", "8", "16", "--layers", "1", "--batch-size", "32", "--epochs", "1", "--sample-every", "4")
    trained = run("train.py", "--cfg", *small, "--snapshots", "--data-dir", mnist_dir, "--output-dir", folder)
    assert trained.returncode == 0, trained.stderr
    classifier.save_classifier(judge, folder, images[0].label_names, 0.99)
    assert evaluate(folder, mnist_dir, "over-time", "--steps", "2", "--weight", "0") == 0
    rows = json.loads((folder / "metrics.json").read_text())["over_time"]
    assert [row["training"]["steps"] for row in rows] == [4, 8, 10] and all(row["fid_test"] > 0 for row in rows)
    assert rows[0]["training"]["seconds"] < rows[-1]["training"]["seconds"]


def test_bits_per_dimension_are_measured_written_and_told(folder, mnist_dir, capsys):
    few = ("--images", "20", "--draws", "3", "--ode-images", "2", "--tolerance", "0.1")
    assert evaluate(folder, mnist_dir, "likelihood", *few) == 0
    said = capsys.readouterr().out
    bits = Metrics(folder).content["bits_per_dim"]
    assert bits["images"] == 20 and bits["ode"]["images"] == 2 and bits["seconds"] > 0
    card = (folder / "README.md").read_text()
    figure = f"{bits['beta']['total']['mean']:.3f} ± {bits['beta']['total']['se']:.3f}"
    assert figure in said and figure in card and "evaluation likelihood" in card and "--images 20" in card
    assert evaluate(folder, mnist_dir, "likelihood", "--images", "1") == 2
    assert "--images is 1" in capsys.readouterr().err


@pytest.mark.slow
def test_latents_are_measured_beside_what_the_autoencoder_costs(folder, mnist_dir, capsys):
    """A tiny latent model: through the command, with the autoencoder's own figures, and what it restores."""
    torch.manual_seed(0)
    net = build_unet((8, 7, 7), (16,), 10, layers=1, condition="image").eval()
    old = checkpoint.load(folder)
    codec = LatentCodec(autoencoder.build_autoencoder(1, 28).eval())
    denoiser = Denoiser(adapt(net, "image"), old.denoiser.schedule, "v_prediction")
    checkpoint.save(replace(old, denoiser=denoiser, codec=codec), folder)
    report = {"psnr": 9.0, "latents": [8, 7, 7], "test_images": 40, "seconds": 60.0}
    (folder / "autoencoder.json").write_text(json.dumps(report))
    assert evaluate(folder, mnist_dir, "samples", "--steps", "3", "--weight", "0") == 0
    assert evaluate(folder, mnist_dir, "restore", "--images", "20") == 0
    said, metrics = capsys.readouterr().out, read_metrics(folder)
    assert len(metrics["quality"]) == 1 and metrics["quality"][0]["accuracy"] < 0.5  # an untrained network
    assert metrics["autoencoder"]["psnr"] < 20 and metrics["autoencoder"]["fid_train"] > metrics["floor"]
    for task in ("complete", "enlarge"):
        assert metrics["restored"][task].keys() == {"psnr", "psnr_of_another", "psnr_plain", "accuracy"}
        assert f"| {task} |" in said
    assert metrics["restored"]["enlarge"]["psnr_plain"] > 10
    assert evaluate(folder, mnist_dir, "likelihood", "--images", "4") == 2
    assert "this checkpoint diffuses latents" in capsys.readouterr().err


def test_a_checkpoint_that_was_not_measured_cannot_be_compared(folder):
    (folder / "metrics.json").write_text(json.dumps({"model": "another", "quality": [{}]}))
    with pytest.raises(UserError, match="was not measured: python -m ddpm_demo.evaluation samples --checkpoint"):
        compare_best([folder])


def test_checkpoints_are_compared_with_as_many_real_images_each():
    table = compare_best([SHIPPED, SHIPPED.with_name("cifar10")])
    assert "| 8,192 real training images |" in table and "| 2,048 real training images |" in table
    assert compare_best([SHIPPED]).count("real training images") == 1


def test_a_snapshot_that_comes_too_late_is_named(monkeypatch):
    rows = {"short": [{"training": {"seconds": 60}}], "long": [{"training": {"seconds": 600}}]}
    monkeypatch.setattr(compare, "read_metrics", lambda folder: {"over_time": rows[folder.name]})
    monkeypatch.setattr(compare, "encoder_seconds", lambda folder: 0.0)
    with pytest.raises(UserError, match="long was not measured within 1 minutes"):
        compare.describe_at(Path("long"), 61.0)


def test_the_shipped_judge_is_found_from_another_folder(folder, mnist_dir, tmp_path, monkeypatch):
    (folder / classifier.FILE).unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    subject = open_checkpoint(str(folder), str(mnist_dir))
    subject.load_judge()
    assert subject.metrics.judge["judge"] == hash_file(SHIPPED / classifier.FILE)


def test_checkpoints_at_equal_training_time(folder, tmp_path, capsys):
    """The latent one's autoencoder counts; the longer training is taken where the shorter ends."""
    both = [tmp_path / name for name in ("pixels", "latents")]
    for place in both:
        shutil.copytree(folder, place, ignore=shutil.ignore_patterns("pixels", "latents"))

    def measured(*rows):
        setting = BASE.as_dict() | {"samples": 256}
        return {
            "model": identify_model(folder),
            "quality": [{
                "setting": setting, "fid_test": 2.0, "accuracy": 0.25, "precision": 0.5, "recall": 0.4,
                "spread": {"fid_test": 0.1}, "reference": {"fid_test": 0.1, "precision": 0.9, "recall": 0.8},
            }],
            "over_time": [
                {"training": {"steps": steps, "seconds": seconds, "batch_size": 10}, "setting": setting,
                 "fid_test": fid, "accuracy": 0.5, "spread": {"fid_test": 0.1}}
                for steps, seconds, fid in rows
            ],
        }  # fmt: skip

    (both[0] / "metrics.json").write_text(json.dumps(measured((100, 600, 4.0), (200, 1200, 3.0), (400, 2400, 2.0))))
    (both[1] / "metrics.json").write_text(json.dumps(measured((300, 300, 2.5), (600, 610, 1.5))))
    (both[1] / "autoencoder.json").write_text(json.dumps({"seconds": 600.0}))
    assert evaluation.main(["compare", *map(str, both)]) == 0
    best, _, compared = capsys.readouterr().out.partition("\n\n")
    assert "| `latents` | dpm++2m, 20 steps, cosine | 1 | 2.00 ± 0.10 | 0.50 | 0.40 | 25.0% |" in best.splitlines()
    rows = [line.split(" | ") for line in compared.splitlines()[2:]]
    assert rows[0][0] == "| pixels" and rows[0][2:5] == ["20", "2,000", "3.00 ± 0.10"]
    assert rows[1][0] == "| latents" and rows[1][2:5] == ["20 (10 of them the autoencoder)", "6,000", "1.50 ± 0.10"]
    (both[0] / "metrics.json").write_text(json.dumps({**measured(), "over_time": []}))
    assert evaluation.main(["compare", *map(str, both)]) == 2
    assert "was not measured over time" in capsys.readouterr().err
