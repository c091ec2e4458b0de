"""Drawing images with a model: where to begin, every step on the way, interpolation, zero-shot classification."""
