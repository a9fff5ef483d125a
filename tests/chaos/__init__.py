"""Kills brokers and nodes at random times, and counts what was lost."""
