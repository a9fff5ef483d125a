"""Thresholds by trial: settings of the decider tried on recordings whose truth is known."""
