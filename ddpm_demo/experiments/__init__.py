"""Experiments that compare several trainings, compare with the network of another project, and measure speed."""
