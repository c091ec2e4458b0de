"""A small class-conditional diffusion model that one can see through: load it, sample it, read it."""

from ddpm_demo.diffusion.samplers import SAMPLERS, Step
from ddpm_demo.diffusion.schedule import SCHEDULES, Schedule
from ddpm_demo.errors import UserError
from ddpm_demo.generation.generate import generate, sample
from ddpm_demo.models.checkpoint import Model, load

__version__ = "0.1.0"
__all__ = ["SAMPLERS", "SCHEDULES", "Model", "Schedule", "Step", "UserError", "generate", "load", "sample"]
