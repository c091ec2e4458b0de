"""The networks, the codecs around them, the classifiers, and the checkpoint folder that holds a trained model."""
