"""Training: the configuration, the loop, its resumable state and log; the autoencoder and the classifiers."""
