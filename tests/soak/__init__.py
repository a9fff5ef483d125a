"""Thirty days of a running device in some minutes, and what they cost it."""
