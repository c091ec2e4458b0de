"""A small class-conditional diffusion model that one can see through: load it, sample it, read it."""

from ddpm_demo.checkpoint import Model, load
from ddpm_demo.errors import UserError
from ddpm_demo.generation import generate, sample
from ddpm_demo.samplers import SAMPLERS, Step
from ddpm_demo.schedule import SCHEDULES, Schedule

__version__ = "0.1.0"
__all__ = ["SAMPLERS", "SCHEDULES", "Model", "Schedule", "Step", "UserError", "generate", "load", "sample"]
