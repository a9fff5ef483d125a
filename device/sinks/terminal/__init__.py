"""The terminal: a live display, or a line for each change."""
