"""A file for each family of public checkpoints: its configuration, and the map between its names and jaxdiff's, both ways."""
