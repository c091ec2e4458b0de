"""Generates images with a model: the start, the sampling steps, interpolation, zero-shot classification."""
