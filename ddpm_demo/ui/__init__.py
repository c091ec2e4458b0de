"""The Gradio app: layout and event handlers. The other packages do the computations."""
