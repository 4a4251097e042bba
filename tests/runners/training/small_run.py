"""A small run: 90 digits, a student and the shipped teacher."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from kdstats.data import ImageSet
from kdstats.records.paths import RunPaths
from kdstats.records.scanner import scan
from kdstats.teacher.network import Network
from runners.run_spec import RunSpec
from runners.training.loop import train_student


@dataclass
class World:
    """Data, a teacher and a run to start from."""

    train: ImageSet
    test: ImageSet
    teacher: Network
    spec: RunSpec

    def run(self, out: Path, spec: RunSpec | None = None, **more: Any) -> RunPaths:
        """Trains and returns where."""
        chosen = spec or self.spec
        paths = chosen.paths(out)
        train_student(chosen, paths, self.train, self.test, self.teacher, **more)
        return paths

    def with_(self, **changes: Any) -> RunSpec:
        """The run with other settings."""
        return replace(self.spec, **changes)


def rows(paths: RunPaths) -> dict[str, np.ndarray]:
    """All recorded rows."""
    found = list(scan([paths]))
    return {name: np.concatenate([part[name] for part in found]) for name in found[0]}


def same_run(one: RunPaths, other: RunPaths) -> None:
    """Weights and rows are equal bit for bit."""
    for name in ("last", "best"):
        a, b = (load_file(getattr(paths, name)) for paths in (one, other))
        assert list(a) == list(b)
        for key in a:
            assert torch.equal(a[key], b[key]), (name, key)
    a, b = rows(one), rows(other)
    assert list(a) == list(b)
    for key in a:
        np.testing.assert_array_equal(a[key], b[key], err_msg=key)
