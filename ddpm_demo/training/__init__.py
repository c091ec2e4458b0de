"""Trains models: the configuration, the loop, its resumable state and its log; the autoencoder, the classifiers."""
