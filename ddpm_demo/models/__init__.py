"""The networks and their adapters, the image codecs, the classifiers, and the folder format of a checkpoint."""
