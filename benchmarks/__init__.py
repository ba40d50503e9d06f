"""Measurements. Each script says what it measures, how to run it, and what was seen; README.md lists them all."""
