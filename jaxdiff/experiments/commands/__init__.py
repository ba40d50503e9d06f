"""The commands of ``jaxdiff``, a file each: ``add_arguments(parser)`` and ``run(args)``."""
