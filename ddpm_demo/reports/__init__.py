"""Reads and reports the measured results of a checkpoint: metrics files, Markdown tables, the model card."""
