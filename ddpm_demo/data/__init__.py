"""Loads datasets and folders of images as tensors, and converts between tensors and images."""
