"""What choosing by T. stddev has been worth in the published panels, in one sentence."""

from __future__ import annotations

import numpy as np

from kdstats.association.regret import Regret, regret
from kdstats.published import load_published


def published_regret(*, rng: np.random.Generator) -> Regret:
    """Regret of the lowest T. stddev over the ten panels of Wang et al. (NeurIPS 2022), in nats of test loss.

    Args:
        rng: Source of the bootstrap over panels.
    """
    points = load_published("wang2022").points
    return regret(points, x="t_stddev", y="test_loss", group="panel", label="scheme", rng=rng)


def published_sentence(result: Regret) -> str:
    """The sentence that goes with :func:`published_regret`, from the fields of its result alone."""
    names = load_published("wang2022").names(short=True)
    return result.sentence(predictor="T. stddev", unit="nats", kind="published panels", names=names)
