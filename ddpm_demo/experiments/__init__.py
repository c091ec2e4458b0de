"""Comparisons of several trainings, with another project's network, and of speed."""
