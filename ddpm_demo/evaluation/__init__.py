"""Measuring a checkpoint: samples, maps of the settings, likelihood, restored images. ``python -m ddpm_demo.evaluation``."""
