"""What a study file says: its sections, and the whole of it with its variants, read and checked."""

from runners.study_file.document import VARIED, StudyFile, explain, read_study

__all__ = ["VARIED", "StudyFile", "explain", "read_study"]
