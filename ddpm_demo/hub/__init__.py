"""Downloads and publishes checkpoints on the Hugging Face Hub, and publishes Spaces (``python -m ddpm_demo.hub``)."""
