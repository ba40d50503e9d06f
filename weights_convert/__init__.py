"""Checkpoints of other programs to and from jaxdiff; torch is never needed to read one."""
