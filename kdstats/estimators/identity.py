"""Covariance tied to the identity of images: which part of a loss belongs to the image, its view, its batch, its epoch.

Every image i appears once per epoch e and view v (its original, its augmented view), both in the batch b of that
epoch. With the mean of each epoch and view taken out, or kept as ``epoch``,

    u_iev = μ_ev + image_i + view_iv + image_epoch_ie + batch_b(i,e) + batch_view_b(i,e)v + residual_iev

* ``image``: stays with the image over views and epochs (a hard image is hard for every student);
* ``view``: how much an image's augmented view differs from its original in every epoch;
* ``image_epoch``: shared by the views of an image in one step only (what the student knows of it then);
* ``batch``: shared by all images of a step in all views (the student's state at that step);
* ``batch_view``: shared by all images of a step in one view (one draw of the scheme for the whole batch);
* ``epoch``: variance of the epochs' means around their own mean;
* ``residual``: fresh in every row (the draw of the standard augmentation and of the scheme).

Two losses covary by what they share. From the mean squares of a balanced layout each variance follows in closed form
(unbiased, hence possibly negative); where views or epochs are missing, terms that cannot be told apart are joined.

Source: Searle, Casella & McCulloch 1992, chapters 3 and 4; intervals by the jackknife over images and over batches.
"""

from __future__ import annotations

from typing import Any

from kdstats.errors import unknown
from kdstats.estimators.crossed import Crossed
from kdstats.estimators.identity_anova import anova
from kdstats.estimators.identity_components import SHARED, VarianceComponents
from kdstats.estimators.intervals import check_confidence

__all__ = ["METHODS", "SHARED", "VarianceComponents", "components_of", "variance_components"]

METHODS = ("anova", "reml")


def variance_components(
    values: Any,
    *,
    image: Any,
    view: Any = None,
    batch: Any = None,
    epoch: Any = None,
    method: str = "anova",
    confidence: float = 0.95,
) -> VarianceComponents:
    """Variance components of losses by the identity of their images.

    Args:
        values: ``[n]`` one loss per row, nats.
        image: ``[n]`` identity of the image.
        view: ``[n]`` original or augmented; None: one view.
        batch: ``[n]`` the step in which the row was seen; None: what a step shares then counts as
            ``image_epoch`` or ``residual``.
        epoch: ``[n]`` epoch; None: one epoch.
        method: ``anova`` (closed form, unbiased, any size; intervals by jackknife) or ``reml`` (normal
            likelihood, never negative; intervals by normal theory, too short for heavy tails; at most
            :data:`~kdstats.estimators.identity_reml.MOST_BATCHES` batches).
        confidence: Nominal coverage.

    Raises:
        UsageError: Unlike lengths, fewer than 10 complete images, no image seen twice, unknown method.
        CheckError: NaN or infinity, or nothing varies.

    Coverage of 95 % intervals (``benchmarks/results/coverage_covariance.md``; 60 to 1,437 images, 1 to 10 epochs, 15 to
    150 batches). ``anova``, 2,000 replications: 0.918 to 0.991 for normal effects; for skewed ones (gamma) 0.848 to
    0.989, lowest for the correlation of losses of one batch (0.848 with 15 batches), and 0.665 to 0.818 for ``epoch``.
    ``reml``, 500 replications with 60 and 200 images: 0.880 to 0.974 for normal effects, 0.656 to 0.902 for skewed ones.
    Few images, batches or epochs, and ``reml``, put a note on the result.

    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> hard = rng.normal(size=400)
    >>> u = hard[:, None, None] + 0.5 * rng.normal(size=(400, 6, 2))
    >>> i, e, v = (index.ravel() for index in np.indices(u.shape))
    >>> found = variance_components(u.ravel(), image=i, epoch=e, view=v)
    >>> found.components["image"].low < 1 < found.components["image"].high
    True
    """
    check_confidence(confidence)
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    layout = Crossed.of(values, image=image, view=view, batch=batch, epoch=epoch)
    return components_of(layout, method=method, confidence=confidence)


def components_of(layout: Crossed, *, method: str = "anova", confidence: float = 0.95) -> VarianceComponents:
    """The same from a layout that is balanced already."""
    if method == "reml":
        from kdstats.estimators.identity_reml import reml

        return reml(layout, confidence)
    return anova(layout, confidence)
