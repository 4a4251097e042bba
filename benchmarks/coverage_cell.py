"""One cell of the tables of ``benchmarks/coverage_regression.py``: coverage with its Monte Carlo error, and its check."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Floats = NDArray[np.float64]
Row = dict[str, Any]
N, LEVEL, COMPARED = 9, 0.05, 10  # schemes a pair; 1 - confidence; replications that the library computes too


def t_quantile(dof: Any) -> Any:
    return special.stdtrit(dof, 1 - LEVEL / 2)


def row(what: str, setting: str, k: int, interval: str, hits: Any, widths: Any) -> Row:
    hits, widths = np.asarray(hits, dtype=float), np.asarray(widths, dtype=float)
    share = float(hits.mean())
    return {
        "what": what,
        "setting": setting,
        "pairs": k,
        "interval": interval,
        "coverage": share,
        "mc_error": (share * (1 - share) / hits.size) ** 0.5,
        "median_width": float(np.median(widths)) if widths.size else None,
        "replications": hits.size,
    }


def same(ours: Any, theirs: Any, what: str) -> None:
    if not np.allclose(ours, theirs, rtol=1e-6, atol=1e-6):
        raise SystemExit(f"{what}: the array formulas give {ours}, the library {theirs}")
