"""The tabs of the app, one module per tab, with layout and event handlers."""
