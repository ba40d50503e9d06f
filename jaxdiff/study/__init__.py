"""The study that jaxdiff reproduces: its runs, tables, figures and claims."""
