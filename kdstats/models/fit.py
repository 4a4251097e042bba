"""Whether tensors fit a network: which names are missing, which are strange, which shapes differ."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]

_PREFIXES = ("module.", "_orig_mod.")
COUNTER = "num_batches_tracked"
"""BatchNorm's count of the batches it has seen."""


def plain(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """``state`` without the prefixes that DataParallel (``module.``) and ``torch.compile`` (``_orig_mod.``) add.

    A prefix is taken off only when every name has it, so that no two names can become one.
    """
    found = {str(key): value for key, value in state.items()}
    while found:
        prefix = next((p for p in _PREFIXES if all(key.startswith(p) for key in found)), None)
        if prefix is None:
            break
        found = {key.removeprefix(prefix): value for key, value in found.items()}
    return found


def shapes_of(state: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Name → shape."""
    return {key: tuple(value.shape) for key, value in state.items()}


@dataclass(frozen=True)
class Misfit:
    """What stands between some tensors and a network; false when nothing does.

    Attributes:
        missing: Names that the network has and the tensors lack. BatchNorm's counters of batches may be absent,
            as they are in files of PyTorch before 0.4.1; nothing is computed from them here.
        extra: Names that the network does not have.
        shapes: Name, given shape and expected shape, where these differ.
    """

    missing: tuple[str, ...]
    extra: tuple[str, ...]
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.extra or self.shapes)

    def __str__(self) -> str:
        """For people: the first three of each kind and how many more."""
        parts = []
        if self.shapes:
            details = [f"{k} is {list(given)}, expected {list(want)}" for k, given, want in self.shapes[:3]]
            more = f"; {len(self.shapes) - 3} more shapes" if len(self.shapes) > 3 else ""
            parts.append("; ".join(details) + more)
        if self.missing:
            parts.append(f"missing {some(self.missing)}")
        if self.extra:
            parts.append(f"unexpected {some(self.extra)}")
        return "; ".join(parts)


def misfit(given: Shapes, wanted: Shapes) -> Misfit:
    """Compares what is given with what a network wants."""
    return Misfit(
        tuple(k for k in wanted if k not in given and not k.endswith(COUNTER)),
        tuple(k for k in given if k not in wanted),
        tuple((k, given[k], wanted[k]) for k in wanted if k in given and given[k] != wanted[k]),
    )


def some(keys: tuple[str, ...] | list[str]) -> str:
    """The first three of ``keys`` and how many more."""
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")
