"""What a study on disk holds: its card, tables, run folders, settings, records and measurements, read and checked."""

from analyses.study.card import networks_of
from analyses.study.folders import run_folders, used_folders
from analyses.study.loaded import Study, load_study

__all__ = ["Study", "load_study", "networks_of", "run_folders", "used_folders"]
