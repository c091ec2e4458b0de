"""Datasets and folders of images as tensors, and tensors as pictures."""
