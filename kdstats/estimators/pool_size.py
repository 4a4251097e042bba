"""A value of T. stddev brought to another pool size, as far as that can be known."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from kdstats.errors import CheckError, UsageError
from kdstats.estimators.components import Components
from kdstats.estimators.estimate import Estimate
from kdstats.estimators.layout import PoolLayout

# A doubt below this share of the interval's half-width is noted and borne; a larger one is refused.
_BEARABLE = 0.25


@dataclass(frozen=True, slots=True)
class PoolSize:
    """What a pool is: ``batches`` consecutive batches of ``batch_size`` originals, each with its views."""

    batches: int
    batch_size: int

    def __post_init__(self) -> None:
        if self.batches < 1 or self.batch_size < 1:
            raise UsageError(
                f"a pool has at least 1 batch of 1 image, not {self.batches} of {self.batch_size}"
            )

    def __str__(self) -> str:
        return f"{self.batches}x{self.batch_size}"


@dataclass(frozen=True, slots=True)
class FinitePopulation:
    """The training set behind both values, drawn in epochs without replacement.

    Attributes:
        images: N.
        epochs: Epochs of the protocol.
        image_share: Share of a batch mean's variance (under independent draws) that lies between images, 0 … 1;
            None if it is not known. The rest, the standard augmentation and the scheme's draws, is drawn afresh.
    """

    images: int
    epochs: int
    image_share: float | None = None


def at_pool_size(
    estimate: Estimate,
    old: PoolSize,
    new: PoolSize,
    *,
    draws: str = "batch",
    history: bool = False,
    components: Components | None = None,
    population: FinitePopulation | None = None,
) -> Estimate:
    """``estimate`` of T. stddev, converted from pools of ``old`` to pools of ``new``.

    What is assumed, and when it is exact:

    * Batches independent of each other (no ``history``): the variance of a pool of b batches is one b-th of a
      batch's, whatever happens inside a batch. So another number of batches of the same size is exact.
    * Another batch size with ``draws="sample"``: each image brings its own draws, so all covariances grow with the
      number of images and the variance falls as 1/M (a partner drawn in a larger batch differs by O(1/batch)).
    * Another batch size with ``draws="batch"``: images share a draw, and the covariance it makes does not fall with
      the batch size, while that of mixing partners does. ``components`` give the sum of both, ``cov_cross``, not
      their split. The two extremes are computed; if they agree within a quarter of the interval's half-width,
      their middle is returned with a note, otherwise the conversion is refused.
    * ``population``: epochs without replacement take ``finite·S²/N`` off the variance
      (:class:`~kdstats.estimators.layout.PoolLayout`). With ``image_share`` known that is exact; without it both
      extremes are computed and judged alike. Without a population draws are taken as independent.

    1/sqrt(M) alone is right only for independent inputs. Ratios of variances averaged over classes are applied to
    all classes alike.

    Args:
        estimate: Of pools of ``old``.
        old: Its pool size.
        new: The pool size wanted.
        draws: ``batch`` or ``sample``: how the scheme draws.
        history: Whether batches depend on the ones before (recursive_mix).
        components: Of a pool of ``old``; only needed for another batch size under batch draws.
        population: The finite training set.

    Returns:
        The estimate with value, se and ends scaled; ``definition`` and ``notes`` say that it was converted.

    Raises:
        UsageError: Sizes or names that make no sense.
        CheckError: The conversion depends on what is not known.
    """
    if draws not in ("batch", "sample"):
        raise UsageError(f"draws are 'batch' or 'sample', not {draws!r}")
    if not (estimate.value > 0 and estimate.low > 0):
        raise UsageError("only a positive T. stddev with a positive interval can be converted")
    if old == new:
        return estimate
    if history:
        raise CheckError(
            f"batches that depend on the ones before do not add up like independent ones: measure pools of {new} "
            "directly"
        )
    bearable = _BEARABLE * math.log(estimate.high / estimate.low) / 2
    inner, notes = _within_batch(old, new, draws, components, bearable)
    outer, more = _epochs(old, new, population, inner, bearable)
    factor = math.sqrt(inner * outer)
    return replace(
        estimate,
        value=factor * estimate.value,
        se=factor * estimate.se,
        low=factor * estimate.low,
        high=factor * estimate.high,
        method=f"{estimate.method}; converted from pools of {old} to {new}",
        definition=f"t_stddev[converted to pool={new} from {old}; measured: {estimate.definition or 'not said'}]",
        notes=(*estimate.notes, *notes, *more),
    )


def _within_batch(
    old: PoolSize, new: PoolSize, draws: str, components: Components | None, bearable: float
) -> tuple[float, tuple[str, ...]]:
    """Ratio of the batch means' variances, and what was assumed."""
    sizes = old.batch_size / new.batch_size
    if old.batch_size == new.batch_size:
        return 1.0, ()
    if draws == "sample":
        return sizes, ("converted between batch sizes: exact for draws per sample up to O(1/batch size)",)
    if components is None:
        raise CheckError(
            f"with one draw a batch, batches of {new.batch_size} cannot be told from batches of {old.batch_size}: "
            "images of a batch share a draw; give the components, or measure it"
        )
    cross = components.cov_cross / components.total
    if not cross < 1:
        raise CheckError("the components hold no spread of single images")
    # κ, the mean covariance of two images of a batch, is constant if it comes from shared draws:
    # cross = (n − 1)/n · κ for each batch.
    pairs = (1 - 1 / new.batch_size) / (1 - 1 / old.batch_size) if old.batch_size > 1 else 1.0
    shared, own = (1 - cross) * sizes + cross * pairs, sizes
    return _between(shared, own, bearable, f"whether {cross:.1%} of the variance comes from shared draws")


def _epochs(
    old: PoolSize, new: PoolSize, population: FinitePopulation | None, inner: float, bearable: float
) -> tuple[float, tuple[str, ...]]:
    """Ratio of the pools' variances over that of the batches (``inner``), and what was assumed."""
    if population is None:
        return old.batches / new.batches, ("draws taken as independent (no finite training set)",)
    share = population.image_share
    if share is not None and not 0 <= share <= 1:
        raise UsageError(f"a share lies between 0 and 1, not {share}")
    layouts = [
        PoolLayout.of(population.images, size.batch_size, size.batches, population.epochs)
        for size in (old, new)
    ]

    def ratio(image: float) -> float:
        # S² is the same number before and after, so it is counted in variances of the old and of the new batch.
        between = [image * old.batch_size / scale for scale in (1.0, inner)]
        left = [x.per_batch - x.finite * s / x.images for x, s in zip(layouts, between, strict=True)]
        if min(left) <= 0:
            raise CheckError(
                f"pools of {new} exhaust the {population.images} images: nothing is left to vary"
            )
        return left[1] / left[0]

    if share is not None:
        return ratio(share), ()
    return _between(ratio(0.0), ratio(1.0), bearable, "the share of the variance that lies between images")


def _between(a: float, b: float, bearable: float, what: str) -> tuple[float, tuple[str, ...]]:
    """The geometric middle of two ratios of variances if their sqrt differ little; else a refusal."""
    if min(a, b) <= 0:
        raise CheckError(f"the conversion depends on {what}, which is not known; measure it")
    doubt = abs(math.log(a / b)) / 4  # half the distance, on the scale of T. stddev
    if doubt > bearable:
        raise CheckError(
            f"the conversion depends on {what}, which is not known: it could be off by ±{doubt:.1%}, beside an "
            f"interval of ±{bearable / _BEARABLE:.1%}; measure it at that size"
        )
    return math.sqrt(a * b), (f"{what} is not known: off by at most ±{doubt:.2%}",) if doubt > 0 else ()
