"""Puts the site together: pages as they are in the repository, and pages made from the code. `make docs` runs it."""
