"""Where randomness comes from: generators keyed by what they are for, never by what ran before.

A draw is a function of (seed, epoch, step or sample_id, purpose). Worker count, rank and resuming cannot
change it; for per-sample draws the batch size cannot either.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor

from kdstats.draws.splitmix import FIRST, SECOND, finalise

_MASK = (1 << 63) - 1


def generator(seed: int, *path: int | str) -> torch.Generator:
    """A CPU generator for one purpose, for example ``generator(seed, "view", epoch, step)``."""
    text = "\x1f".join([str(seed), *(str(part) for part in path)])
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "little") & _MASK)


def view_generator(seed: int, draws: str, epoch: int, step: int, purpose: str = "view") -> torch.Generator:
    """The generator of one batch of views.

    With ``draws="batch"`` it depends on the step. With ``draws="sample"`` it is the same for every step of an
    epoch, and the images' ids tell their draws apart, so that the batch size does not matter.
    """
    return generator(seed, purpose, epoch) if draws == "sample" else generator(seed, purpose, epoch, step)


def epoch_order(seed: int, epoch: int, n: int) -> Tensor:
    """``[n]`` int64: the shuffled positions of epoch ``epoch``, a function of (seed, epoch) alone."""
    return torch.randperm(n, generator=generator(seed, "order", epoch))


def sample_uniforms(key: int, sample_id: Tensor, count: int) -> Tensor:
    """Uniform numbers in [0, 1) that depend on ``(key, sample_id, column)`` only.

    A counter-based generator: the splitmix64 finaliser (:mod:`kdstats.draws.splitmix`) over the three coordinates,
    53 bits used.

    Args:
        key: Any 63-bit integer, drawn from the generator that the caller gave.
        sample_id: ``[B]`` int64.
        count: Columns to draw.

    Returns:
        ``[B, count]`` float64 on the CPU.
    """
    ids = sample_id.detach().cpu().numpy().astype(np.uint64)
    columns = np.arange(count, dtype=np.uint64)
    with np.errstate(over="ignore"):
        mixed = finalise(ids + np.uint64(key) * FIRST)
        words = finalise(mixed[:, None] + (columns + np.uint64(1)) * SECOND)
    return torch.from_numpy((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def uniforms(draws: str, sample_id: Tensor, count: int, gen: torch.Generator) -> Tensor:
    """Uniform numbers at the scheme's granularity.

    Returns:
        ``[1, count]`` for ``draws="batch"``, ``[B, count]`` for ``draws="sample"``; float64, CPU.
    """
    if draws == "sample":
        return sample_uniforms(int(torch.randint(_MASK, (), generator=gen)), sample_id, count)
    return torch.rand(1, count, generator=gen, dtype=torch.float64)


def integers(u: Tensor, low: int, high: int) -> Tensor:
    """Uniform integers in ``low … high`` (both included) from uniforms in [0, 1)."""
    found = low + (u.numpy() * (high - low + 1)).astype(np.int64)
    return torch.from_numpy(np.minimum(found, high))  # the largest u below 1 may round up
