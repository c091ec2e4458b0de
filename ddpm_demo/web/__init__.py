"""Writes the demo as a folder of static files that runs in the visitor's browser (``python -m ddpm_demo.web``)."""
