"""Figures of the questions that need more than a few lines to be drawn; each writes its own caption."""
