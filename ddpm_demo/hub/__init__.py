"""To and from the Hugging Face Hub and its Spaces. ``python -m ddpm_demo.hub``."""
