"""The Coral Edge TPU, and the CPU that takes over from it."""
