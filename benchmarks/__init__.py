"""Measurements: each script says what it measures, how to run it, and what was seen on which machine."""
