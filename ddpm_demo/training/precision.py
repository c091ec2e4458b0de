"""The choice between bf16 and float32: the one in which a training is faster on this machine.

On a CPU this is measured, because its flags are misleading: some processors compute in bf16, others emulate it at a
quarter of the speed. The weights are float32 in both cases.
"""

import time
from dataclasses import replace

import torch
from accelerate.state import PartialState
from accelerate.utils import broadcast_object_list

from ddpm_demo.data.datasets import Data
from ddpm_demo.diffusion.denoiser import Denoiser, loss
from ddpm_demo.diffusion.schedule import trained_schedule
from ddpm_demo.models.adapters import adapt
from ddpm_demo.training.configuration import AUTO, TrainingConfiguration
from ddpm_demo.training.preparation import build_network, load_codec

ROUNDS = 3
LEAST_GAIN = 1.1  # bf16 is less accurate, and the timing is noisy, so a smaller gain does not count


def choose_precision(configuration: TrainingConfiguration, data: Data, device: str) -> TrainingConfiguration:
    """The configuration with "auto" replaced by "bf16" or "no".

    On a GPU this is bf16. On a CPU, the main process measures both and prints the result.
    """
    if configuration.mixed_precision != AUTO:
        return configuration
    if device != "cpu":
        return replace(configuration, mixed_precision="bf16")
    state, choice = PartialState(), ["no"]
    if state.is_main_process:
        seconds = time_steps(configuration, data, min(configuration.batch_size, len(data)) // state.num_processes)
        choice = [faster_precision(seconds)]
        print(
            f"a training step takes {seconds['bf16']:.3f} s in bf16 and {seconds['no']:.3f} s in float32: "
            f"training in {'bf16' if choice == ['bf16'] else 'float32'}",
            flush=True,
        )
    return replace(configuration, mixed_precision=broadcast_object_list(choice)[0])


def faster_precision(seconds: dict[str, float]) -> str:
    """ "bf16" if it is faster by at least a tenth, otherwise "no"."""
    return "bf16" if seconds["no"] > LEAST_GAIN * seconds["bf16"] else "no"


def time_steps(configuration: TrainingConfiguration, data: Data, batch_size: int) -> dict[str, float]:
    """Seconds of a forward and a backward pass on a CPU, by precision: the fastest of three, in alternation."""
    shape = load_codec(configuration).shape(data.images.shape[1], configuration.image_size)
    label_names = data.label_names if configuration.cfg else ()
    schedule = trained_schedule(configuration.schedule, configuration.time)
    x0, noise = torch.randn(2, max(1, batch_size), *shape)
    log_snr, label = schedule.at(torch.rand(len(x0))), torch.zeros(len(x0), dtype=torch.int64)
    denoisers = {}
    for name in ("no", "bf16"):
        net = build_network(replace(configuration, mixed_precision=name), shape, label_names, "cpu")
        denoisers[name] = Denoiser(adapt(net, configuration.condition), schedule, configuration.prediction)
    times: dict[str, list[float]] = {name: [] for name in denoisers}
    for _ in range(1 + ROUNDS):
        for name, denoiser in denoisers.items():
            began = time.perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "bf16"):
                value = loss(denoiser, x0, log_snr, noise, label).mean()
            value.backward()
            times[name].append(time.perf_counter() - began)
    return {name: min(of_one[1:]) for name, of_one in times.items()}  # the first round allocates memory
