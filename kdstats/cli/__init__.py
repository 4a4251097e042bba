"""The ``kdstats`` command: one file per subcommand, heavy imports inside the handlers."""
