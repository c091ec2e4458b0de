"""A small class-conditional diffusion model. This module is the public interface: load a model and sample from it."""

from ddpm_demo.diffusion.reverse_process import Step
from ddpm_demo.diffusion.samplers import SAMPLERS
from ddpm_demo.diffusion.sampling import Sampling
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.generation.begin import Completion, Enlargement, MixedNoise, NoisedImage, PureNoise
from ddpm_demo.generation.generate import generate, sample
from ddpm_demo.models.checkpoint import Model, load

__version__ = "0.1.0"
__all__ = [
    "SAMPLERS", "SCHEDULES", "Completion", "Enlargement", "MixedNoise", "Model", "NoisedImage", "PureNoise", "Sampling",
    "Schedule", "Step", "UserError", "generate", "load", "sample",
]  # fmt: skip
