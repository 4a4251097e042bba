"""Estimators: from pools and samples to a number with its standard error and interval.

This room imports numpy and scipy only (a test checks it). The mathematics are free functions of arrays; the
streaming ``TStddev`` and ``Comoments`` offer ``update``, ``merge`` and ``compute`` over them.
"""
