"""Association between a predictor and an outcome: correlation, its uncertainty, and what the choice costs.

This room imports numpy, scipy and pandas only: no torch, no matplotlib. Functions take arrays or a tidy
frame and return frozen results or tidy frames; nothing is rounded, nothing is dropped, no seed is hidden.
"""
