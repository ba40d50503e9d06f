"""Tasks by name, grids of runs, and the study's tables and figures."""
