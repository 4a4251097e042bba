"""Networks under their field names, built by :func:`build`, and safe weight loading."""

from __future__ import annotations

from kdstats.models.infer import Guess, infer
from kdstats.models.registry import build, canonical, names
from kdstats.models.weights import load_weights, read_state_dict, save_weights

__all__ = ["Guess", "build", "canonical", "infer", "load_weights", "names", "read_state_dict", "save_weights"]
