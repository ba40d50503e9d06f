"""A web page on this machine in which a person restores a picture: ``jaxdiff app``."""
