"""Maps of two networks brought to one size."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from kdstats.errors import UsageError


def same_size(objective: str, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Both maps ``[B, D, H, W]`` at the smaller size, the larger one by adaptive average pooling.

    Raises:
        UsageError: Not maps.
    """
    if student.ndim != 4 or teacher.ndim != 4:
        raise UsageError(
            f"{objective} compares maps [B, D, H, W], not {list(student.shape)} of the student and "
            f"{list(teacher.shape)} of the teacher"
        )
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    return _pooled(student, size), _pooled(teacher, size)


def _pooled(x: Tensor, size: tuple[int, int]) -> Tensor:
    return x if x.shape[2:] == size else F.adaptive_avg_pool2d(x, size)
