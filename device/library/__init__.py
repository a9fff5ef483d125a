"""The models on this device: what they are, and how they come here."""
