"""Measure speed: ``python -m ddpm_demo.experiments.benchmark --checkpoint checkpoints/mnist``.

Measures the images per second of the network by batch size, with channels_last, recording, bf16 and torch.compile,
compared with the machine's best convolution; training steps; whole guided digits; start-up; and, for comparison, the
U-Net of the Hugging Face diffusion course with diffusers' own loops (peer.py). All variants of a figure are timed in
turn, in short rounds, so that their *ratios* hold on a machine whose speed varies.

python -m ddpm_demo.experiments.benchmark                 about two minutes
python -m ddpm_demo.experiments.benchmark --distilled checkpoints/mnist-instant    also a distilled model
python -m ddpm_demo.experiments.benchmark --compile       also torch.compile: minutes more, needs a C++ compiler
"""

import argparse
import copy
import json
import platform
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler
from torch import Tensor, nn
from torch.optim import Adam, AdamW
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ddpm_demo.diffusion.denoiser import loss
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.errors import UserError
from ddpm_demo.experiments.peer import DDIM_STEPS, SCHEDULE, CourseUNet
from ddpm_demo.experiments.peer import sample as course_sample
from ddpm_demo.files import SHIPPED, identify_model, write_atomically
from ddpm_demo.generation.generate import generate
from ddpm_demo.models.adapters import adapt, condition_of
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.models.networks import TensorOutput, build_unet, use_plain_attention
from ddpm_demo.reports.markdown import write_table
from ddpm_demo.training.compilation import check_compiler
from ddpm_demo.training.muon import Muon

BATCHES = (1, 2, 20, 100)
IMAGES = (1, 10, 100)  # that are drawn together
ROUNDS = 5
FILE = "speed.json"


def time_in_turns(variants: dict[str, Callable], rounds: int | None = None, least: float = 0.15) -> dict[str, float]:
    """Return the median seconds of each call. In each round, each is called in turn for at least ``least`` seconds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call(), call()  # warm-up
    for _ in range(rounds or ROUNDS):
        for name, call in variants.items():
            count, began = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - began < least:
                call()
                count += 1
            times[name].append((time.perf_counter() - began) / count)
    return {name: statistics.median(found) for name, found in times.items()}


def count_gflop(net: nn.Module, *inputs) -> float:
    """Return the billions of floating-point operations of a call. A multiplication and an addition count as two."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops() / 1e9


def measure_machine() -> dict:
    """Describe the machine, with the speed of its best matrix product and convolution in GFLOP/s."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    a = torch.randn(1024, 1024)
    convolution = nn.Conv2d(96, 96, 3, padding=1).requires_grad_(False).to(memory_format=torch.channels_last)
    x = torch.randn(100, 96, 14, 14).to(memory_format=torch.channels_last)
    seconds = time_in_turns({"matrix": lambda: a @ a, "convolution": lambda: convolution(x)})
    return {
        "processor": named[0] if named else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matrix_gflops": 2 * 1024**3 / seconds["matrix"] / 1e9,
        "convolution_gflops": 2 * 96 * 96 * 9 * 14 * 14 * 100 / seconds["convolution"] / 1e9,
    }


def network_variants(model: Model, with_compile: bool) -> dict[str, Callable]:
    """Return the network in several forms, some of which may be faster, as functions of (x, timestep, labels)."""
    net = model.denoiser.net.net  # channels_last, as loaded

    def call_in_bf16(*inputs):
        with torch.autocast("cpu", torch.bfloat16):
            return net(*inputs, return_dict=False)

    forms = {
        "contiguous": copy.deepcopy(net).to(memory_format=torch.contiguous_format),
        "channels_last": net,
        "recorded": model.trace().denoiser.net.net,
        "bf16": call_in_bf16,
    }
    return forms | ({"compiled": torch.compile(TensorOutput(net), dynamic=False)} if with_compile else {})


@torch.no_grad()
def measure_calls(model: Model, best: float, with_compile: bool) -> list[dict]:
    """Measure a network call by batch size and variant, and a call of the course's network in the same rounds.

    ``best`` is the speed of the best convolution in GFLOP/s.
    """
    forms, course, rows = network_variants(model, with_compile), CourseUNet().eval(), []
    size = model.codec.shape(model.channels, model.image_size)
    work = {name: count_gflop(model.denoiser.net.net, *random_inputs(1, size)) for name in forms}
    work["course"] = count_gflop(course, *random_inputs(1, (1, 28, 28)))
    for batch in tqdm(BATCHES, "network calls", leave=False, disable=None):
        inputs, pixels = random_inputs(batch, size), random_inputs(batch, (1, 28, 28))
        timed = {name: partial(form, *inputs) for name, form in forms.items()}
        for name, seconds in time_in_turns(timed | {"course": partial(course, *pixels)}).items():
            rate = work[name] * batch / seconds
            rows.append(
                {
                    "variant": name,
                    "batch": batch,
                    "ms": seconds * 1e3,
                    "images_per_second": batch / seconds,
                    "gflops": rate,
                    "of_convolution": rate / best,
                    "gflop_per_image": work[name],
                }
            )
    return rows


def random_inputs(batch: int, shape: tuple[int, ...]) -> tuple:
    """Return random (x, timestep, labels) of a network call."""
    return torch.randn(batch, *shape), torch.full((batch,), 500.0), torch.zeros(batch, dtype=torch.int64)


def measure_training(model: Model, with_compile: bool) -> dict:
    """Measure the images per second of a whole training step at the batch size of the training, by variant."""
    batch = model.training["batch_size"]
    x0 = torch.randn(batch, *model.codec.shape(model.channels, model.image_size))
    label = torch.zeros(batch, dtype=torch.int64) if model.label_names else None
    log_snr = model.denoiser.schedule.log_snr(torch.rand(batch) * 999)

    steppers = {
        "contiguous": our_stepper(model, x0, label, log_snr),
        "channels_last": our_stepper(model, x0, label, log_snr, channels_last=True),
        "bf16": our_stepper(model, x0, label, log_snr, channels_last=True, bf16=True),
    }
    if with_compile:
        steppers["bf16, compiled"] = our_stepper(
            model, x0, label, log_snr, channels_last=True, bf16=True, compiled=True
        )
    seconds = time_in_turns(steppers | {"course": course_stepper(batch)})
    return {"batch": batch, "images_per_second": {name: batch / s for name, s in seconds.items()}}


def our_stepper(
    model: Model,
    x0: Tensor,
    label: Tensor | None,
    log_snr: Tensor,
    channels_last: bool = False,
    bf16: bool = False,
    compiled: bool = False,
) -> Callable[[], None]:
    """Return a function that makes a training step of a new network of the model's shape."""
    training = model.training
    net = build_unet(
        x0.shape[1:],
        training["widths"],
        len(model.label_names),
        attention=training["attention"],
        layers=training["layers"],
    ).train()
    net = net.to(memory_format=torch.channels_last) if channels_last else net
    if bf16:
        use_plain_attention(net)
    if compiled:
        net.compile()
    denoiser = replace(model.denoiser, net=adapt(net))
    with_muon = training.get("optimizer") == "muon"
    optimizer = Muon(net, 1e-4, bf16, fused=True) if with_muon else AdamW(net.parameters(), 1e-4, fused=True)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            value = loss(denoiser, x0, log_snr, torch.randn_like(x0), label).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def course_stepper(batch: int) -> Callable:
    """Return a function that makes a training step of the course's network."""
    net = CourseUNet()
    optimizer = Adam(net.parameters(), 1e-3)
    x, t, label = torch.randn(batch, 1, 28, 28), torch.randint(0, 999, (batch,)), torch.zeros(batch, dtype=torch.int64)

    def step() -> None:
        value = F.mse_loss(net(x, t, label), x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return step


def measure_digits(model: Model, distilled: Model | None = None) -> list[dict]:
    """Measure the seconds for finished images: ours with 20 guided steps, the course's with 50 DDIM steps.

    In the same rounds, measure those of the ``distilled`` model in one step, if it is given.
    """
    recorded, course, rows = model.trace(), CourseUNet().eval(), []
    instant = distilled and distilled.trace()
    generator = torch.Generator().manual_seed(0)
    for count in IMAGES:
        label = torch.arange(count) % 10
        ways = {
            "ours": partial(generate, recorded, label.tolist(), sampling=Sampling(weight=1.0)),
            "course": partial(course_sample, course, label, DDIMScheduler(**SCHEDULE), DDIM_STEPS, generator),
        }
        if instant:
            ways["distilled"] = partial(generate, instant, label.tolist(), weight=1.0, steps=1)
        seconds = time_in_turns(ways, rounds=3 if count == 1 else 1)
        rows.append({"images": count} | {f"{way}_seconds": value for way, value in seconds.items()})
    return rows


def measure_startup(checkpoint: str) -> dict:
    """Measure the seconds until a new Python process has loaded the checkpoint, and until the app answers."""
    loads = []
    for _ in range(2):  # the faster of two: other programs on the machine can only slow it down
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", f"import ddpm_demo; ddpm_demo.load({checkpoint!r})"], check=True)
        loads.append(time.perf_counter() - began)
    loaded = min(loads)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    began = time.perf_counter()
    command = [sys.executable, "app.py", "--port", str(port), "--checkpoint", checkpoint]
    app = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while app.poll() is None:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}", timeout=1)
                return {"load_seconds": loaded, "app_seconds": time.perf_counter() - began}
            except OSError:
                time.sleep(0.05)
        return {"load_seconds": loaded}  # in a folder without app.py
    finally:
        app.terminate()
        app.wait()


def tabulate(report: dict) -> str:
    """Format the report as text and Markdown tables."""
    machine, started, digits = report["machine"], report["startup"], report["digits"]
    head = (
        f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}: matrix product "
        f"{machine['matrix_gflops']:.0f} GFLOP/s, convolution {machine['convolution_gflops']:.0f} GFLOP/s"
    )
    rates = report["training"]["images_per_second"]
    training = write_table(
        [f"training step, batch {report['training']['batch']}", *rates],
        [["images/s", *(f"{rate:.0f}" for rate in rates.values())]],
    )
    seconds = [(row["images"], row["ours_seconds"], row["course_seconds"]) for row in digits]
    finished = write_table(
        ["finished images", "ours, 20 guided steps", "course, 50 DDIM steps", "ratio"],
        [[str(n), f"{ours:.2f} s", f"{course:.2f} s", f"{course / ours:.1f}"] for n, ours, course in seconds],
    )
    app = f", the app answers after {started['app_seconds']:.1f} s" if "app_seconds" in started else ""
    tail = f"Loading the checkpoint in a fresh Python: {started['load_seconds']:.1f} s{app}."
    parts = [head, tabulate_network_calls(report["calls"]), training, finished, tabulate_distilled(digits), tail]
    return "\n\n".join(part for part in parts if part)


def tabulate_distilled(digits: list[dict]) -> str:
    """Tabulate the seconds for finished images by the distilled model, as Markdown; "" if it was not measured."""
    seconds = [
        (row["images"], row["ours_seconds"], row["distilled_seconds"]) for row in digits if "distilled_seconds" in row
    ]
    rows = [[str(n), f"{ours * 1e3:.0f} ms", f"{few * 1e3:.1f} ms", f"{ours / few:.0f}"] for n, ours, few in seconds]
    return write_table(["finished images", "20 guided steps", "distilled, one step", "ratio"], rows) if rows else ""


def tabulate_network_calls(calls: list[dict]) -> str:
    """Tabulate the images per second by variant and batch size, as Markdown."""
    batches = dict.fromkeys(row["batch"] for row in calls)
    title = "network call, images/s (share of the best convolution)"
    rows = []
    for name in dict.fromkeys(row["variant"] for row in calls):
        cells = [row for row in calls if row["variant"] == name]
        shares = [f"{cell['images_per_second']:.0f} ({cell['of_convolution']:.0%})" for cell in cells]
        rows.append([f"{name}, {cells[0]['gflop_per_image']:.2f} GFLOP", *shares])
    return write_table([title, *(f"batch {batch}" for batch in batches)], rows)


def main(arguments: list[str] | None = None) -> int:
    """Parse the command line, measure, print, and write ``speed.json`` into the checkpoint. Returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.benchmark",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--checkpoint", default=str(SHIPPED / "mnist"), help="a folder (default: the shipped checkpoints/mnist)"
    )
    parser.add_argument("--distilled", metavar="FOLDER", help="also measure the images of this distilled checkpoint")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile")
    options = parser.parse_args(arguments)
    try:
        model = load(options.checkpoint)
        check_model(model, options.checkpoint)
        distilled = load_distilled(options.distilled, model) if options.distilled else None
        if options.compile:
            check_compiler()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    folder = Path(options.checkpoint)
    identity = {"model": identify_model(folder)} if folder.is_dir() else {}
    machine = measure_machine()
    report = identity | {
        "machine": machine,
        "calls": measure_calls(model, machine["convolution_gflops"], options.compile),
        "training": measure_training(model, options.compile),
        "digits": measure_digits(model, distilled),
        "startup": measure_startup(options.checkpoint),
    }
    print(tabulate(report))
    if folder.is_dir():
        write_atomically(folder / FILE, (json.dumps(report, indent=1) + "\n").encode())
        print(f"\nwritten to {folder / FILE}")
    return 0


def check_model(model: Model, name: str) -> None:
    """Raise UserError unless the model draws images like those of the course's network, in the same way."""
    if (model.channels, model.image_size, condition_of(model.denoiser.net)) != (1, 28, "add"):
        raise UserError(
            f"{name} is of {model.channels}x{model.image_size}x{model.image_size} images; the network to compare with "
            "draws digits of 1x28x28: pass a checkpoint of such images"
        )


def load_distilled(source: str, model: Model) -> Model:
    """Load a distilled checkpoint with the classes of the model. Raises UserError for any other."""
    distilled = load(source)
    if not distilled.distilled or distilled.label_names != model.label_names:
        raise UserError(f"{source} is no distilled checkpoint with the classes of the other model: pass one, or none")
    return distilled


if __name__ == "__main__":
    sys.exit(main())
