"""The tabs of the app, one module each: layout and handlers only."""
