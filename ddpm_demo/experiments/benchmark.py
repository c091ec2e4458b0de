"""Measure speed: ``python -m ddpm_demo.experiments.benchmark --checkpoint checkpoints/mnist``.

How many images a second the network takes by batch size, and what channels_last, recording, bf16 and torch.compile each
give here, against the machine's own best convolution; training steps; a whole guided digit; start-up; and beside it
what a user would pick instead, the U-Net of the Hugging Face diffusion course under diffusers' own loops (peer.py).
All variants of a figure take turns in short rounds, so that their *ratios* hold on a noisy machine.

python -m ddpm_demo.experiments.benchmark                 about two minutes
python -m ddpm_demo.experiments.benchmark --compile       also torch.compile: a minute more, and needs a C++ compiler
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
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import tqdm

from ddpm_demo.diffusion.denoiser import loss
from ddpm_demo.errors import UserError
from ddpm_demo.experiments.peer import DDIM_STEPS, SCHEDULE, CourseUNet
from ddpm_demo.experiments.peer import sample as course_sample
from ddpm_demo.files import write_atomically
from ddpm_demo.generation.generate import generate
from ddpm_demo.models.adapters import adapt, condition_of
from ddpm_demo.models.checkpoint import Model, load
from ddpm_demo.models.networks import Bare, unet

BATCHES = (1, 2, 20, 100)
IMAGES = (1, 10, 100)  # drawn at once
ROUNDS = 5
FILE = "speed.json"


def in_turns(variants: dict[str, Callable], rounds: int | None = None, least: float = 0.15) -> dict[str, float]:
    """Median seconds of each call, over rounds in which all take their turn for at least ``least`` seconds."""
    times: dict[str, list[float]] = {name: [] for name in variants}
    for call in variants.values():
        call(), call()  # warm
    for _ in range(rounds or ROUNDS):
        for name, call in variants.items():
            count, began = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - began < least:
                call()
                count += 1
            times[name].append((time.perf_counter() - began) / count)
    return {name: statistics.median(found) for name, found in times.items()}


def gflop(net: nn.Module, *inputs) -> float:
    """Billions of floating-point operations of a call (multiply and add are two)."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(*inputs)
    return counter.get_total_flops() / 1e9


def machine() -> dict:
    """What the figures were measured on, with its best matrix product and convolution in GFLOP/s."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    named = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    a = torch.randn(1024, 1024)
    convolution = nn.Conv2d(96, 96, 3, padding=1).requires_grad_(False).to(memory_format=torch.channels_last)
    x = torch.randn(100, 96, 14, 14).to(memory_format=torch.channels_last)
    seconds = in_turns({"matrix": lambda: a @ a, "convolution": lambda: convolution(x)})
    return {
        "processor": named[0] if named else platform.processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "matrix_gflops": 2 * 1024**3 / seconds["matrix"] / 1e9,
        "convolution_gflops": 2 * 96 * 96 * 9 * 14 * 14 * 100 / seconds["convolution"] / 1e9,
    }


def variants(model: Model, with_compile: bool) -> dict[str, Callable]:
    """The network in every form that may be faster, as functions of (x, timestep, labels)."""
    net = model.denoiser.net.net  # channels_last, as loaded

    def low(*given):
        with torch.autocast("cpu", torch.bfloat16):
            return net(*given, return_dict=False)

    forms = {
        "contiguous": copy.deepcopy(net).to(memory_format=torch.contiguous_format),
        "channels_last": net,
        "recorded": model.recorded().denoiser.net.net,
        "bf16": low,
    }
    return forms | ({"compiled": torch.compile(Bare(net), dynamic=False)} if with_compile else {})


@torch.no_grad()
def calls(model: Model, best: float, with_compile: bool) -> list[dict]:
    """One network call by batch size and variant, the course's network in the same rounds; ``best`` in GFLOP/s."""
    forms, course, rows = variants(model, with_compile), CourseUNet().eval(), []
    size = model.codec.shape(model.channels, model.image_size)
    work = {name: gflop(model.denoiser.net.net, *arguments(1, size)) for name in forms}
    work["course"] = gflop(course, *arguments(1, (1, 28, 28)))
    for batch in tqdm(BATCHES, "network calls", leave=False, disable=None):
        given, pixels = arguments(batch, size), arguments(batch, (1, 28, 28))
        timed = {name: partial(form, *given) for name, form in forms.items()}
        for name, seconds in in_turns(timed | {"course": partial(course, *pixels)}).items():
            rate = work[name] * batch / seconds
            rows.append(
                {"variant": name, "batch": batch, "ms": seconds * 1e3, "images_per_second": batch / seconds,
                 "gflops": rate, "of_convolution": rate / best, "gflop_per_image": work[name]}
            )  # fmt: skip
    return rows


def arguments(batch: int, shape: tuple[int, ...]) -> tuple:
    """(x, timestep, labels) of a network call."""
    return torch.randn(batch, *shape), torch.full((batch,), 500.0), torch.zeros(batch, dtype=torch.int64)


def training(model: Model) -> dict:
    """Images a second of a whole training step at the recipe's batch size, by variant."""
    told = model.training
    batch = told["batch_size"]
    x0 = torch.randn(batch, *model.codec.shape(model.channels, model.image_size))
    label = torch.zeros(batch, dtype=torch.int64) if model.label_names else None
    log_snr = model.denoiser.schedule.log_snr(torch.rand(batch) * 999)

    def stepper(last: bool, low: bool) -> Callable:
        net = unet(
            x0.shape[1:], told["widths"], len(model.label_names), attention=told["attention"], layers=told["layers"]
        ).train()
        net = net.to(memory_format=torch.channels_last) if last else net
        denoiser, optimizer = (
            replace(model.denoiser, net=adapt(net)),
            torch.optim.AdamW(net.parameters(), 1e-4, fused=True),
        )

        def take() -> None:
            with torch.autocast("cpu", torch.bfloat16, enabled=low):
                value = loss(denoiser, x0, log_snr, torch.randn_like(x0), label).mean()
            optimizer.zero_grad()
            value.backward()
            optimizer.step()

        return take

    seconds = in_turns(
        {
            "contiguous": stepper(False, False),
            "channels_last": stepper(True, False),
            "bf16": stepper(False, True),
            "course": course_step(batch),
        }
    )
    return {"batch": batch, "images_per_second": {name: batch / s for name, s in seconds.items()}}


def course_step(batch: int) -> Callable:
    """A training step of the course's network."""
    net = CourseUNet()
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)
    x, t, label = torch.randn(batch, 1, 28, 28), torch.randint(0, 999, (batch,)), torch.zeros(batch, dtype=torch.int64)

    def take() -> None:
        value = F.mse_loss(net(x, t, label), x)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()

    return take


def digits(model: Model) -> list[dict]:
    """Seconds from labels to finished images at the app's settings, and the course's network with 50 DDIM steps."""
    recorded, course, rows = model.recorded(), CourseUNet().eval(), []
    generator = torch.Generator().manual_seed(0)
    for count in IMAGES:
        label = torch.arange(count) % 10
        ways = {
            "ours": partial(generate, recorded, label.tolist(), weight=1.0),
            "course": partial(course_sample, course, label, DDIMScheduler(**SCHEDULE), DDIM_STEPS, generator),
        }
        seconds = in_turns(ways, rounds=3 if count == 1 else 1)
        rows.append({"images": count, "ours_seconds": seconds["ours"], "course_seconds": seconds["course"]})
    return rows


def startup(checkpoint: str) -> dict:
    """Seconds until a fresh Python has loaded the checkpoint, and until the app answers."""
    loads = []
    for _ in range(2):  # the faster of two: what else the machine does can only slow it down
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
        return {"load_seconds": loaded}  # run from elsewhere: there is no app.py
    finally:
        app.terminate()
        app.wait()


def table(told: dict) -> str:
    """The figures as Markdown."""
    here = told["machine"]
    names = list(dict.fromkeys(row["variant"] for row in told["calls"]))
    batches = list(dict.fromkeys(row["batch"] for row in told["calls"]))
    lines = [
        f"{here['processor']}, {here['threads']} threads, torch {here['torch']}: matrix product "
        f"{here['matrix_gflops']:.0f} GFLOP/s, convolution {here['convolution_gflops']:.0f} GFLOP/s\n",
        "| network call, images/s (share of the best convolution) | "
        + " | ".join(f"batch {b}" for b in BATCHES)
        + " |",
        "|---" * (1 + len(batches)) + "|",
    ]
    for name in names:
        cells = [row for row in told["calls"] if row["variant"] == name]
        shares = " | ".join(f"{cell['images_per_second']:.0f} ({cell['of_convolution']:.0%})" for cell in cells)
        lines.append(f"| {name}, {cells[0]['gflop_per_image']:.2f} GFLOP | {shares} |")
    rates = told["training"]["images_per_second"]
    lines += ["", f"| training step, batch {told['training']['batch']} | " + " | ".join(rates) + " |"]
    lines += ["|---" * (1 + len(rates)) + "|", "| images/s | " + " | ".join(f"{v:.0f}" for v in rates.values()) + " |"]
    lines += ["", "| finished images | ours, 20 guided steps | course, 50 DDIM steps | ratio |", "|---|---|---|---|"]
    lines += [
        f"| {row['images']} | {row['ours_seconds']:.2f} s | {row['course_seconds']:.2f} s | "
        f"{row['course_seconds'] / row['ours_seconds']:.1f} |"
        for row in told["digits"]
    ]
    started = told["startup"]
    app = f", the app answers after {started['app_seconds']:.1f} s" if "app_seconds" in started else ""
    return "\n".join([*lines, "", f"Loading the checkpoint in a fresh Python: {started['load_seconds']:.1f} s{app}."])


def main(given: list[str] | None = None) -> int:
    """Parse, measure, print, write ``speed.json`` into the checkpoint. Returns the exit status."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="python -m ddpm_demo.experiments.benchmark", description=__doc__, formatter_class=formatter
    )
    parser.add_argument("--checkpoint", default="checkpoints/mnist", help="a folder (default: %(default)s)")
    parser.add_argument("--compile", action="store_true", help="also what torch.compile gives")
    options = parser.parse_args(given)
    try:
        model = load(options.checkpoint)
        if (model.channels, model.image_size, condition_of(model.denoiser.net)) != (1, 28, "add"):
            raise UserError(
                f"{options.checkpoint} is of {model.channels}x{model.image_size}x{model.image_size} images; the network to "
                "compare with draws digits of 1x28x28: pass a checkpoint of those"
            )
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    told = {"machine": machine()}
    told["calls"] = calls(model, told["machine"]["convolution_gflops"], options.compile)
    told["training"], told["digits"] = training(model), digits(model)
    told["startup"] = startup(options.checkpoint)
    print(table(told))
    if Path(options.checkpoint).is_dir():
        write_atomically(Path(options.checkpoint) / FILE, (json.dumps(told, indent=1) + "\n").encode())
        print(f"\nwritten to {Path(options.checkpoint) / FILE}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
