"""Recorded: from run directories on disk to estimates.

The bridge between ``records`` (rows) and ``estimators`` (arrays): rows become one matrix row per training step, or a
table image x epoch x view, in bounded memory. Used by ``kdstats estimate`` and by the study's tables alike.
"""
