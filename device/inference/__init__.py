"""What runs a model: runtimes, delegates, the choice between them, and an Edge TPU."""
