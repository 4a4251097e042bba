"""How batch means vary within epochs, and which part of it comes from pairs that share an image.

Within an epoch of disjoint batches the sample variance has the expectation of independent draws, so pooling within
epochs removes the effect of sampling without replacement; the same holds for covariances. Everything is returned
with its delete-one values, because all that is built on it is jackknifed over batches.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def within_epochs(units: Array, epoch: NDArray[np.int64], other: Array | None = None) -> tuple[Array, Array]:
    """Variance of ``units`` within epochs ``[C]``, or their covariance with ``other``; delete-one values ``[J, C]``.

    Args:
        units: ``[J, C]``, at least two of them in one epoch.
        epoch: ``[J]`` epoch of each.
        other: ``[J, C]``; ``units`` themselves when left out.
    """
    _, index, counts = np.unique(epoch, return_inverse=True, return_counts=True)
    gaps = _centre(units, index, counts)
    products = gaps * (gaps if other is None else _centre(other, index, counts))
    df = len(units) - len(counts)
    members = counts[index][:, None].astype(float)
    # A unit alone in its epoch holds no information about the variance; leaving it out changes nothing.
    lone = members == 1
    removed = np.where(lone, 0.0, members / np.maximum(members - 1, 1) * products)
    left_df = np.where(lone, df, df - 1)
    total = products.sum(axis=0)
    left = (total - removed) / left_df
    if other is None:
        left = np.maximum(left, 0.0)
    return total / df, left


def of_pairs(units: Array, products: Array, singles: Array, epoch: NDArray[np.int64]) -> tuple[Array, Array]:
    """The part of the covariance of batch means that chosen pairs of their members make; delete-one values.

    Of all pairs (member of a batch of ``units``, member of the same batch of another kind) some are chosen.
    ``products`` is the sum of the chosen pairs' products over the number of all pairs, ``singles`` the sum of their
    other members alone. If the two are independent in every other pair, :func:`within_epochs` and this function have
    the same expectation, but this one averages over members and hardly varies: their difference is a control variate
    of mean zero. In how many pairs the other member is may hang on it (a view that mixes nothing is made of one image
    only), which is why these members are summed and the pairs not just counted.

    What the chosen pairs would have in common if they were independent is taken from different batches of one epoch,
    which are drawn without replacement like those of the same batch, so that the difference has mean zero in a finite
    training set, too.

    Args:
        units: ``[J, C]`` batch means.
        products: ``[J, C]`` as above.
        singles: ``[J, C]`` as above.
        epoch: ``[J]`` epoch of each batch.

    Returns:
        ``[C]`` and ``[J, C]``.
    """
    _, index, counts = np.unique(epoch, return_inverse=True, return_counts=True)
    n = counts[:, None].astype(float)
    columns = (units, singles, units * singles, products)
    sums = [_sum(column, index, len(counts)) for column in columns]
    whole = _contribution(n, *sums)
    total, df = whole.sum(axis=0), len(units) - len(counts)
    without = _contribution(
        n[index] - 1, *(s[index] - column for s, column in zip(sums, columns, strict=True))
    )
    left_df = np.where(n[index] == 1, df, df - 1)
    return total / df, (total - whole[index] + without) / left_df


def _contribution(n: Array, units: Array, singles: Array, same: Array, products: Array) -> Array:
    """(n − 1) · (mean of the pairs' products − mean product of units and singles across batches), from sums."""
    n = np.maximum(n, 1)
    return (n - 1) / n * products - (units * singles - same) / n


def _sum(units: Array, index: NDArray[np.int64], epochs: int) -> Array:
    found = np.zeros((epochs, units.shape[1]))
    np.add.at(found, index, units)
    return found


def _centre(units: Array, index: NDArray[np.int64], counts: NDArray[np.int64]) -> Array:
    return np.asarray(units - (_sum(units, index, len(counts)) / counts[:, None])[index])
