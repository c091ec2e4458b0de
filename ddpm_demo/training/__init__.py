"""Trains models: the configuration, the training loop, its resumable state and its log; the autoencoder."""
