"""Starts the command."""

import sys

from kdstats.console import run_program
from runners.study.command import main

sys.exit(run_program("runners.study", main, "the same command continues"))
