"""Networks under their field names, built by :func:`build`, and safe weight loading.

Names are loaded when they are asked for, so that checking the name of a network does not wait for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kdstats.lazy import lazy

if TYPE_CHECKING:
    from kdstats.models.guess import Guess, infer
    from kdstats.models.registry import build, canonical, names
    from kdstats.models.weights import load_weights, read_state_dict, save_weights

_HOMES = {
    "kdstats.models.guess": ("Guess", "infer"),
    "kdstats.models.registry": ("build", "canonical", "names"),
    "kdstats.models.weights": ("load_weights", "read_state_dict", "save_weights"),
}
_HOME = {name: module for module, names_ in _HOMES.items() for name in names_}

__all__ = ["Guess", "build", "canonical", "infer", "load_weights", "names", "read_state_dict", "save_weights"]


__getattr__, __dir__ = lazy(__name__, _HOME)
