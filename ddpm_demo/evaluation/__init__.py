"""Evaluates a checkpoint: samples, maps of settings, likelihood, restoration (``python -m ddpm_demo.evaluation``)."""
