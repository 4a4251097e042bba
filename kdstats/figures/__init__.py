"""Figures: a table becomes Axes, and with them the facts that its caption may state.

Only matplotlib's object-oriented API is used, so no window system or backend choice matters.
"""
