"""Pictures and recordings on disk."""
