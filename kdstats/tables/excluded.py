"""Which runs of a table are marked as excluded."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

COLUMN = "excluded"


def excluded_rows(runs: pd.DataFrame) -> NDArray[np.bool_]:
    """(n,) whether column ``excluded`` is true, as files write it (True, 1, yes); false without the column."""
    import numpy as np

    if COLUMN not in runs.columns:
        return np.zeros(len(runs), dtype=bool)
    said = runs[COLUMN].map(lambda v: str(v).strip().lower() in ("true", "1", "1.0", "yes"))
    return said.to_numpy(dtype=bool)
