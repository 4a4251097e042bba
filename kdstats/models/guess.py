"""Which network some weights belong to, from their names and shapes alone."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from kdstats.errors import MissingError, UsageError
from kdstats.models import registry
from kdstats.models.fit import COUNTER, Misfit, Shapes, misfit, plain, shapes_of
from kdstats.models.skeleton import skeleton


@dataclass(frozen=True)
class Guess:
    """The network that some weights fit.

    Attributes:
        name: Field name, for :func:`~kdstats.models.registry.build`.
        num_classes: Outputs of the last layer.
        in_channels: Channels of the images.
    """

    name: str
    num_classes: int
    in_channels: int

    def __str__(self) -> str:
        images = {1: "grey", 3: "colour"}.get(self.in_channels, f"{self.in_channels}-channel")
        return f"{self.name} for {self.num_classes} classes and {images} images"


@dataclass(frozen=True)
class _Layout:
    """Names and shapes of one network for 2 classes and 1 channel, and where these two numbers stand.

    In every network of the zoo the first tensor is the stem's weight ``[D, in_channels, k, k]`` and the last two
    are the head's weight ``[C, D]`` and bias ``[C]``.
    """

    shapes: Shapes
    stem: str
    head: str

    def scaled(self, given: Shapes) -> tuple[Shapes, int, int]:
        """The layout with the classes and channels of ``given``, where it has such tensors; and these two numbers."""
        stem, head = given.get(self.stem, ()), given.get(f"{self.head}.weight", ())
        channels = stem[1] if len(stem) == 4 else 1
        classes = head[0] if len(head) == 2 else 2
        (out, _, *kernel), (_, width) = self.shapes[self.stem], self.shapes[f"{self.head}.weight"]
        own = {
            self.stem: (out, channels, *kernel),
            f"{self.head}.weight": (classes, width),
            f"{self.head}.bias": (classes,),
        }
        return {**self.shapes, **own}, classes, channels


@functools.cache
def _layout(name: str) -> _Layout:
    network = skeleton(name, 2, registry.family_of(name).least, 1)
    shapes = shapes_of(network.state_dict())
    return _Layout(shapes, next(iter(shapes)), network.HEAD)


def infer(state: Mapping[str, Tensor]) -> Guess:
    """The one network of the zoo that has exactly these tensors.

    Args:
        state: A state dict. Prefixes of DataParallel and ``torch.compile`` do not matter, and BatchNorm's
            counters of batches may be absent.

    Raises:
        MissingError: No network fits; the nearest one is named with what does not fit.
        UsageError: More than one fits; all are named.
    """
    strange = [str(key) for key, value in state.items() if not isinstance(value, Tensor)]
    if strange or not state:
        what = f"{strange[0]!r} is no tensor" if strange else "it is empty"
        raise MissingError(f"this is no state dict (a mapping of names to tensors): {what}")
    given = shapes_of(plain(state))
    fits, nearest = [], _Near(-1.0, "", Misfit((), (), ()), 0, 0)
    for name in registry.names():
        wanted, classes, channels = _layout(name).scaled(given)
        wrong = misfit(given, wanted)
        if not wrong:
            fits.append(Guess(name, classes, channels))
        else:
            nearest = max(nearest, _near(name, given, wanted, wrong), key=lambda near: near.score)
    if len(fits) > 1:
        raise UsageError(f"the weights fit {' and '.join(str(g) for g in fits)}; name the one that is meant")
    if not fits:
        raise MissingError(nearest.sentence(len(given)))
    if fits[0].num_classes < 2:
        raise MissingError(
            f"the weights fit {fits[0].name}, but its head has {fits[0].num_classes} output; a classifier has 2 or more"
        )
    return fits[0]


@dataclass(frozen=True)
class _Near:
    """How far one network is from the given tensors."""

    score: float
    name: str
    wrong: Misfit
    fitting: int
    wanted: int

    def sentence(self, given: int) -> str:
        if self.score == 0:
            return (
                f"the weights belong to no network that kdstats knows: it has none of these {given} tensors; "
                "`kdstats models` lists the networks"
            )
        return (
            f"the weights fit no network that kdstats knows. The nearest is {self.name}, where {self.fitting} of "
            f"{self.wanted} tensors fit: {self.wrong}"
        )


def _near(name: str, given: Shapes, wanted: Shapes, wrong: Misfit) -> _Near:
    """The score is the Jaccard index of the names, half of a name's weight being its shape; counters do not count."""
    theirs, ours = (frozenset(k for k in shapes if not k.endswith(COUNTER)) for shapes in (given, wanted))
    shared = theirs & ours
    fitting = len(shared) - sum(key in shared for key, _, _ in wrong.shapes)
    return _Near((len(shared) + fitting) / (2 * len(theirs | ours)), name, wrong, fitting, len(ours))
