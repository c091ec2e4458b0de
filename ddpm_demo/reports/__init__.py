"""What is known of a checkpoint, from the files in its folder: measured figures, Markdown tables, the model card."""
