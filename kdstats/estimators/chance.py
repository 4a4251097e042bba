"""Whether a network's accuracy may be luck."""

from __future__ import annotations

_LEVEL = 0.05


def may_be_luck(accuracy: float, n: int, classes: int) -> bool:
    """Whether guessing gets so many images right in more than 5 % of tries (exact one-sided binomial test).

    Args:
        accuracy: Share of the images answered rightly.
        n: Images.
        classes: C, of which a guess hits one with probability 1/C.
    """
    from scipy import stats  # a second that `--help` need not wait for

    return float(stats.binom.sf(round(accuracy * n) - 1, n, 1 / classes)) > _LEVEL
