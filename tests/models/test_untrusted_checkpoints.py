"""Checkpoints of unknown origin: each loads and samples finite images, or is refused with one sentence."""

import json
import math
import random
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import interrupted_renaming, read_peak, reset_peak, tiny_model
from safetensors import safe_open
from safetensors.torch import save_file

from ddpm_demo import generate, load
from ddpm_demo.diffusion.denoiser import Denoiser
from ddpm_demo.diffusion.distillation import Distilled
from ddpm_demo.diffusion.schedule import Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.models import checkpoint, classifier, noisy_classifier
from ddpm_demo.models.adapters import adapt
from ddpm_demo.models.checkpoint import Model
from ddpm_demo.models.classifier import Classifier, load_classifier
from ddpm_demo.models.codec import LatentCodec
from ddpm_demo.models.networks import build_unet
from ddpm_demo.models.noisy_classifier import NoisyClassifier
from ddpm_demo.training.autoencoder import build_autoencoder

NAMES = ("a", "b", "c")
UNET, VAE = (f"{part}/diffusion_pytorch_model.safetensors" for part in ("unet", "vae"))
DEMO, NETWORK, SCHEDULER = "demo.json", "unet/config.json", "scheduler/scheduler_config.json"
MOST_MEMORY, MOST_SECONDS = 600, 20  # MiB above the start, and seconds of CPU time, of one mutated checkpoint


@pytest.fixture(scope="module")
def originals(tmp_path_factory) -> list[Path]:
    """Valid checkpoints: pixels with both classifiers, pixels without labels, latents, and a distilled one."""
    root = tmp_path_factory.mktemp("originals")
    checkpoint.save(tiny_model(3), root / "pixels")
    noisy_classifier.save_noisy(NoisyClassifier(1, NAMES), root / "pixels", {0: 0.9})
    classifier.save_classifier(Classifier(1, 3), root / "pixels", NAMES, 0.9)
    checkpoint.save(tiny_model(0, 16, 3, 1), root / "unconditional")
    torch.manual_seed(0)
    net = build_unet((8, 4, 4), (8, 16), 3, layers=1, condition="cross-attention")
    denoiser = Denoiser(adapt(net, "cross-attention"), Schedule.named("linear"), "epsilon")
    checkpoint.save(Model(denoiser, LatentCodec(build_autoencoder(3, 16)), NAMES, 3, 16, "tiny"), root / "latents")
    rows = Distilled(lowest=0.0, highest=1.0, spacing=1.0, steps=(1, 2))
    net = build_unet((4, 8, 8), (8, 16), rows.count_rows(3) - 1, layers=1)
    denoiser = Denoiser(adapt(net), Schedule.named("cosine"), "v_prediction")
    few = replace(tiny_model(3), denoiser=denoiser)
    checkpoint.save(replace(few, distilled=rows, sampling=rows.defaults), root / "distilled")
    return sorted(root.iterdir())


@pytest.fixture
def pixels(originals, tmp_path) -> Path:
    return shutil.copytree(originals[2], tmp_path / "pixels")


def change(path: Path, **entries) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def read_tensors(path: Path) -> tuple[dict, dict]:
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def change_tensors(path: Path, work) -> None:
    """Apply ``work`` to the dictionary of the tensors of a file."""
    tensors, about = read_tensors(path)
    work(tensors)
    changed = path.with_suffix(".changed")  # the tensors may be views of the file
    save_file({name: value.contiguous() for name, value in tensors.items()}, changed, about)
    changed.replace(path)


HUGE = {
    "block_out_channels": [4096] * 4,
    "layers_per_block": 8,
    "down_block_types": ["DownBlock2D"] * 4,
    "up_block_types": ["UpBlock2D"] * 4,
}
REFUSED = [  # (what is changed in a valid checkpoint of three classes of gray images of 16 x 16, part of the sentence)
    (lambda f: change(f / NETWORK, **HUGE), r"its network has [\d,]{13,} parameters; at most 500,000,000 are allowed"),
    (lambda f: change(f / NETWORK, layers_per_block=4000), "layers_per_block = 4000; at most 16 values of at most 8 are"),
    (lambda f: change(f / NETWORK, norm_eps=math.nan), "norm_eps = nan"),
    (lambda f: (change(f / NETWORK, sample_size=512), change(f / DEMO, image_size=1024)), "one call of its network takes"),
    (lambda f: change(f / NETWORK, in_channels=5), "is not a checkpoint that can be loaded"),
    (lambda f: change(f / NETWORK, sample_size=64), "for x of size 64; demo.json describes x of shape"),
    (lambda f: change(f / NETWORK, _class_name="UNet3DConditionModel"), "it must be UNet2DModel"),
    (lambda f: change(f / DEMO, image_size=200_000), "image_size in .* is 200000; it must be .* from 4 to 1024"),
    (lambda f: change(f / DEMO, channels=7), "channels = 7; they must be 1, gray, or 3, colour"),
    (lambda f: change(f / DEMO, label_names=["a", 2, None]), "must be a list of at most 1000 different texts"),
    (lambda f: change(f / DEMO, label_names=["a", "a", "b"]), "must be a list of at most 1000 different texts"),
    (lambda f: change(f / DEMO, codec={"patch": 0}), "patch in .* is 0; it must be a whole number from 1 to 16"),
    (lambda f: change(f / DEMO, codec={"patch": 2, "more": 1}), "it must have the entry patch alone"),
    (lambda f: change(f / DEMO, codec=["patch"]), "it must be an object"),
    (lambda f: change(f / DEMO, dataset=5), "dataset = 5; it must be a text"),
    (lambda f: change(f / DEMO, training=[1]), "training = .*; it must be an object or null"),
    (lambda f: change(f / DEMO, distilled={"spacing": 1e-9}), "spacing is 1e-09; it must lie between 0.01 and 200"),
    (lambda f: change(f / DEMO, distilled={"steps": [1, 3]}), "each number must be twice the one before it"),
    (lambda f: change(f / DEMO, sampling={"steps": 10**9}), "steps is 1000000000; it must be a whole number"),
    (lambda f: (f / DEMO).write_text("[" * 100_000), "demo.json is not JSON"),
    (lambda f: (f / DEMO).write_text(" " * 2**25), "bytes; at most"),
    (lambda f: change(f / SCHEDULER, trained_betas=[1e-300] * 1000), "log-SNRs go from inf to inf"),
    (lambda f: change(f / SCHEDULER, trained_betas=[1e-6] * 1000), "from above 0 to below 0"),
    (lambda f: change(f / SCHEDULER, trained_betas=[0.9] * 1000), "must be finite and decrease with every step"),
    (lambda f: change(f / SCHEDULER, trained_betas=[0.1] * 100_000), "they must be 2 to 10000 numbers"),
    (lambda f: change(f / SCHEDULER, trained_betas="linear"), "they must be 2 to 10000 numbers"),
    (lambda f: change(f / SCHEDULER, prediction_type=None), "prediction is None; it must be one of"),
    (lambda f: change_tensors(f / UNET, lambda t: t["conv_in.bias"].fill_(math.nan)), "not finite numbers in conv_in.b"),
    (lambda f: change_tensors(f / UNET, lambda t: t.pop("conv_in.bias")), "does not have the tensor .conv_in.bias"),
    (lambda f: change_tensors(f / UNET, lambda t: t.update(more=torch.ones(1))), "has the tensor .more"),
    (lambda f: change_tensors(f / UNET, lambda t: t.update({"conv_in.bias": torch.ones(9)})), r"it must have shape \(8,\)"),
    (lambda f: change_tensors(f / UNET, lambda t: t.update({"conv_in.bias": torch.ones(8).long()})), "type I64"),
    (lambda f: change_tensors(f / noisy_classifier.FILE, lambda t: t["body.head.bias"].fill_(math.inf)), "not finite"),
    (lambda f: noisy_classifier.save_noisy(NoisyClassifier(3, NAMES), f, {}), "is not a classifier that can be loaded"),
]  # fmt: skip


@pytest.mark.parametrize("harm, said", REFUSED, ids=[said for _, said in REFUSED])
def test_what_cannot_be_sampled_is_refused_when_it_is_loaded(pixels, harm, said):
    harm(pixels)
    with pytest.raises(UserError, match=said):
        load(pixels)


@pytest.mark.parametrize("harm, said", [
    (lambda path: path.write_bytes(path.read_bytes()[:100]), "is not a classifier that can be loaded"),
    (lambda path: change_tensors(path, lambda t: t["head.bias"].fill_(math.nan)), "not finite numbers in head.bias"),
    (lambda path: change_tensors(path, lambda t: t.update({"head.bias": torch.ones(9)})), r"it must have shape \(3,\)"),
    (lambda path: save_file(read_tensors(path)[0], path, {"label_names": "[1, 2, 3]"}), "label_names = .1, 2, 3.; they must be"),
    (lambda path: classifier.save_classifier(Classifier(1, 3), path.parent, NAMES, math.nan), "accuracy in .* is nan"),
])  # fmt: skip
def test_a_damaged_judge_is_refused(pixels, harm, said):
    harm(pixels / classifier.FILE)
    with pytest.raises(UserError, match=said):
        load_classifier(pixels)


def test_a_network_is_refused_before_it_is_allocated(pixels):
    """The tensors of the file have the shapes of the network, but there are no bytes for them."""
    change(pixels / NETWORK, block_out_channels=[1024, 1024])
    before = reset_peak()
    with pytest.raises(UserError, match="does not fit its network"):
        load(pixels)
    assert read_peak() < before + 100  # the weights would take 1,100 MiB


@pytest.mark.parametrize("link", [UNET, DEMO, "unet", "samples.png", ".complete/demo.json"])
def test_a_link_to_a_place_outside_is_refused(pixels, tmp_path, link):
    """Also a link whose target would be valid; a link to a place inside is allowed."""
    (pixels / ".complete").mkdir()
    shutil.copy(pixels / DEMO, pixels / ".complete")
    (pixels / "samples.png").write_bytes(b"")
    (pixels / link).rename(tmp_path / "outside")
    (pixels / link).symlink_to(tmp_path / "outside")
    with pytest.raises(UserError, match="is a link to a place outside of the checkpoint"):
        load(pixels)
    (pixels / link).unlink()
    (tmp_path / "outside").rename(pixels / "inside")
    (pixels / link).symlink_to(pixels / "inside")
    assert load(pixels).label_names == NAMES


@pytest.mark.parametrize("k, left", [(0, ("a", "b")), (1, NAMES), (4, NAMES)])
def test_an_interrupted_save_leaves_the_old_model_or_the_new_one(tmp_path, k, left):
    """The save is interrupted before its renaming k, from 0; the next save is complete."""
    checkpoint.save(tiny_model(2), tmp_path)
    with pytest.raises(KeyboardInterrupt), interrupted_renaming(k):
        checkpoint.save(tiny_model(3), tmp_path)
    assert load(tmp_path).label_names == left
    checkpoint.save(tiny_model(2), tmp_path)
    assert load(tmp_path).label_names == ("a", "b") and not [*tmp_path.glob(".*")]


# The fuzz


def some_value(rng: random.Random):
    deep = [[[[[1]]]]]
    return rng.choice([
        None, True, "text", "", "x" * 10_000, -1, 0, 1, 2, 3.5, 1e-30, 1e30, math.nan, math.inf, 10**9, 10**400, [], {},
        [None], [1, 2, 3], ["a", "b"], {"a": 1}, deep,
    ])  # fmt: skip


def mutate_entry(rng: random.Random, path: Path) -> None:
    """Remove, replace or exaggerate an entry of a JSON file, at any depth."""
    place = about = json.loads(path.read_text())
    key = rng.choice(list(about))
    while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.5:
        place = place[key]
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
    way = rng.choice(["remove", "replace", "exaggerate", "repeat"])
    if way == "remove":
        del place[key]
    elif way == "exaggerate" and type(place[key]) in (int, float):
        place[key] *= rng.choice([-1, 0, 2, 10, 1000, 10**6, 10**12])
    elif way == "repeat" and isinstance(place[key], list):
        place[key] *= rng.choice([2, 100, 1000])
    else:
        place[key] = some_value(rng)
    path.write_text(json.dumps(about))


def mutate_tensor(rng: random.Random, path: Path) -> None:
    """Rename, remove, reshape, convert, scale or damage a tensor, or its header."""

    def work(tensors: dict) -> None:
        name = rng.choice(sorted(tensors))
        value = tensors.pop(name)
        way = rng.choice(["rename", "remove", "reshape", "longer", "convert", "scale", "damage", "names"])
        if way == "rename":
            tensors[name + rng.choice(["x", ".weight", "\n", "é" * 300])] = value
        elif way == "reshape":
            tensors[name] = value.reshape(rng.choice([(-1,), (1, *value.shape), value.shape[::-1]]))
        elif way == "longer":
            tensors[name] = torch.cat([value.reshape(-1), value.reshape(-1)])
        elif way == "convert":
            tensors[name] = value.to(rng.choice([torch.float64, torch.int32, torch.bool, torch.bfloat16, torch.uint8]))
        elif way in ("scale", "damage"):
            factor = rng.choice([0.0, -1.0, 1e4, 1e30]) if way == "scale" else rng.choice([math.nan, math.inf])
            tensors[name] = value.float() * factor if value.is_floating_point() else value
        elif way == "names":
            tensors.update({f"{name}.{k}": value.clone() for k in range(2000)})

    change_tensors(path, work)


def mutate_header(rng: random.Random, path: Path) -> None:
    """Replace a number in the header of a safetensors file, or the header's length."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = data[8 : 8 + length].decode(), data[8 + length :]
    numbers = list(re.finditer(r"\d+", header))
    number = rng.choice(numbers)
    header = header[: number.start()] + str(rng.choice([0, 7, 10**6, 10**12, 10**30])) + header[number.end() :]
    length = rng.choice([len(header), len(header), 10, 2**40, 2**63])
    path.write_bytes(length.to_bytes(8, "little") + header.encode() + rest)


def mutate_bytes(rng: random.Random, path: Path) -> None:
    """Truncate, empty or overwrite a file, or put a folder, a link or another file in its place."""
    data = path.read_bytes()
    way = rng.choice(["folder", "link", "swap"] + ["truncate", "empty", "overwrite"] * bool(data))
    path.unlink()
    if way == "folder":
        path.mkdir()
    elif way == "link":
        outside = path.parents[1] / f"outside{rng.random()}"
        outside.write_bytes(data)
        path.symlink_to(rng.choice([outside, Path("/etc/passwd"), Path("/dev/zero"), path]))
    elif way == "swap":
        path.write_bytes(rng.choice(sorted(path.parent.rglob("*.json")) or [Path(__file__)]).read_bytes())
    elif way == "overwrite":
        at = rng.randrange(len(data))
        path.write_bytes(data[:at] + rng.randbytes(20) + data[at + 20 :])
    else:
        path.write_bytes(data[: rng.randrange(len(data))] if way == "truncate" else b"")


def mutate(rng: random.Random, folder: Path) -> str:
    """Change one or two files of a checkpoint that loading reads; return which, and how."""
    told = []
    for _ in range(rng.choice([1, 1, 2])):
        files = [path for path in folder.rglob("*") if path.is_file() and path.suffix in (".json", ".safetensors")]
        path = rng.choice(sorted(files))
        special = [mutate_entry] * 4 if path.suffix == ".json" else [mutate_tensor] * 3 + [mutate_header]
        way = rng.choice([*special, mutate_bytes])
        try:
            way(rng, path)
        except Exception:  # the first change may leave a file that cannot be changed like this
            mutate_bytes(rng, path)
        told.append(f"{way.__name__} {path.relative_to(folder)}")
    return ", ".join(told)


def try_checkpoint(folder: Path) -> str:
    """Load a checkpoint and its judge and sample two steps; return "" or the sentence that refused it."""
    try:
        if (folder / classifier.FILE).exists():
            load_classifier(folder)
        model = load(folder)
        scale = 2.0 if model.noisy_classifier else 0.0
        labels = {"labels": [0]} if model.class_names else {"count": 1}
        images = generate(model, **labels, steps=2, classifier_scale=scale)
    except (UserError, FloatingPointError) as error:  # the second: weights are finite, but the results are not
        return str(error)
    assert images.isfinite().all() and images.shape == (1, model.channels, model.image_size, model.image_size)
    return ""


def fuzz(originals: list[Path], tmp_path: Path, seeds) -> list[str]:
    """Try the mutated checkpoints of some seeds; return the sentences, "" for a checkpoint that samples."""
    said, memory, seconds = [], [], []
    for seed in seeds:
        rng = random.Random(seed)
        folder = shutil.copytree(originals[seed % len(originals)], tmp_path / f"{seed}/checkpoint")
        told = f"seed {seed}: {mutate(rng, folder)}"
        before, began = reset_peak(), time.process_time()
        try:
            sentence = try_checkpoint(folder)
        except Exception as error:
            raise AssertionError(f"{told}: {type(error).__name__} instead of a sentence") from error
        said.append(sentence)
        assert "\n" not in sentence and len(sentence) < 1000, told
        memory.append(read_peak() - before)
        seconds.append(time.process_time() - began)
        assert memory[-1] < MOST_MEMORY and seconds[-1] < MOST_SECONDS, told
        shutil.rmtree(tmp_path / str(seed))
    print(
        f"{said.count('')} of {len(said)} mutated checkpoints sample finite images, the others are refused; at most "
        f"{max(memory)} MiB and {max(seconds):.1f} s of CPU time for one"
    )
    return said


def test_a_few_mutated_checkpoints_are_refused_or_sample(originals, tmp_path):
    said = fuzz(originals, tmp_path, range(6))
    assert any(said)


@pytest.mark.slow
def test_300_mutated_checkpoints_are_refused_or_sample(originals, tmp_path):
    said = fuzz(originals, tmp_path, range(300))
    assert 20 < said.count("") < 200 and len(set(said)) > 100
