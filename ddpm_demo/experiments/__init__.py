"""Experiments: comparisons of several trainings, of another project's network with ours, and of speed."""
