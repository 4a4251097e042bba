"""Intervals, tests and comparisons over seeds, schemes, pairs and studies, on which the questions rest."""
