"""One method a file. ``jaxdiff.samplers`` has their names; nothing else imports from here."""
