"""Tests of the model builder and of what it has built."""
