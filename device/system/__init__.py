"""The operating system: systemd, journal, paths, files."""
