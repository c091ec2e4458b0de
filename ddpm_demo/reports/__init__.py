"""What a checkpoint folder says about itself: measured results, tables in Markdown, the model card."""
