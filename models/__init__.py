"""The models that ship with labelcam and the tools that build them; no device runs any of it."""
