"""How the device is: frames, latencies, the board, the picture."""
