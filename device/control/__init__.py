"""What a running device may be told."""
