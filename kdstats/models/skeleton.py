"""Networks without weights: names and shapes alone, at once and in no memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from kdstats.models.classifier import Classifier
from kdstats.models.registry import build


def skeleton(name: str, num_classes: int, img_size: int = 32, in_channels: int = 3) -> Classifier:
    """The network on PyTorch's ``meta`` device. It can be looked at, not called.

    Arguments and errors are those of :func:`~kdstats.models.registry.build`.
    """
    with torch.device("meta"), _NoInitialisation():
        return build(name, num_classes, img_size, in_channels)


class _NoInitialisation(TorchFunctionMode):
    """Leaves out in-place functions (``normal_``, ``kaiming_uniform_`` …), by which weights get their first values.

    On the meta device there is nothing to fill, but the first such call imports half of PyTorch's compiler, which
    takes longer than all networks of the zoo together.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            return args[0] if args else named["tensor"]
        return func(*args, **named)
