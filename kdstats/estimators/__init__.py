"""Estimators: from pools and samples to a number with its standard error and interval.

This room imports numpy and scipy only (a test checks it). Every estimator is a frozen state with
``update``, ``merge`` and ``compute``, over free functions that hold the mathematics.
"""
