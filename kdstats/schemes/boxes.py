"""Rectangles: where a hole or a pasted patch lies, by the rules that published codes use."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Numbers = NDArray[np.float64]
Edges = tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]
# λ [k], uniforms for the place [k, 2 or 4], height, width → top, bottom, left, right, each [k]
BoxRule = Callable[[Numbers, Numbers, int, int], Edges]


def boxes(rule: str, lam: Tensor, place: Tensor, height: int, width: int) -> Tensor:
    """Boxes ``[k, 4]`` int64 = (top, bottom, left, right), ends excluded, by a rule of :data:`BOXES`.

    Args:
        rule: Its name.
        lam: ``[k]`` float64, share of the image that the box is meant to leave.
        place: ``[k, 2]`` uniform numbers for the centre, ``[k, 4]`` for the rule ``corners``.
        height: Of the image.
        width: Of the image.
    """
    # A few numbers on the CPU: numpy takes a third of the time that torch needs to start its operations.
    edges = BOXES[rule][0](lam.numpy(), place.numpy(), height, width)
    return torch.from_numpy(np.stack(edges, axis=1))


def around(
    cy: Numbers, cx: Numbers, half_h: NDArray[np.int64], half_w: NDArray[np.int64], height: int, width: int
) -> Edges:
    """Edges around the pixels that hold the uniform centres, clipped (not shifted) at the borders."""
    y, x = _whole(cy, height), _whole(cx, width)
    return (
        np.maximum(y - half_h, 0),
        np.minimum(y + half_h, height),
        np.maximum(x - half_w, 0),
        np.minimum(x + half_w, width),
    )


def area(box: Tensor) -> Tensor:
    """Pixels inside each box, ``[B]`` int64."""
    return (box[:, 1] - box[:, 0]) * (box[:, 3] - box[:, 2])


def kept_share(box: Tensor, height: int, width: int) -> Tensor:
    """λ of views whose boxes show another image: ``1 − area / (H W)``, ``[B]`` float32."""
    return 1 - area(box).float() / (height * width)


def inside(box: Tensor, like: Tensor) -> Tensor:
    """``[B, 1, H, W]`` in the dtype and on the device of ``like [·, ·, H, W]``: 1 inside the boxes, 0 outside."""
    box = box.to(like.device)
    rows, columns = (torch.arange(n, device=like.device) for n in like.shape[2:])
    down = (rows >= box[:, 0:1]) & (rows < box[:, 1:2])
    across = (columns >= box[:, 2:3]) & (columns < box[:, 3:4])
    return (down.to(like.dtype)[:, :, None] * across.to(like.dtype)[:, None, :])[:, None]


def paste(images: Tensor, other: Tensor, box: Tensor) -> Tensor:
    """``images`` with the inside of each box taken from ``other``, a new tensor.

    Args:
        images: ``[B, channels, H, W]``, finite.
        other: The same shape, finite.
        box: ``[B, 4]``.
    """
    # With weights of exactly 0 and 1 lerp returns its ends bit for bit, twice as fast as where() picks them.
    return torch.lerp(images, other, inside(box, images))


def erase(images: Tensor, box: Tensor) -> Tensor:
    """``images`` with the inside of each box ``[1, 4]`` or ``[B, 4]`` set to 0, a new tensor."""
    if len(box) == 1:
        top, bottom, left, right = box[0].tolist()
        out = images.clone()
        out[:, :, top:bottom, left:right] = 0
        return out
    return images * (1 - inside(box, images))


def _whole(u: Numbers, count: int | NDArray[np.int64]) -> NDArray[np.int64]:
    """Uniform whole numbers 0 … count − 1; the largest u below 1 times count may round up to count itself."""
    return np.asarray(np.minimum((u * count).astype(np.int64), np.asarray(count) - 1))


def _clipped(lam: Numbers, u: Numbers, height: int, width: int) -> Edges:
    """Sides ``int(W √(1 − λ))``, half of them rounded down: an odd side loses a pixel."""
    side = np.sqrt(1 - lam)
    half_h, half_w = ((n * side).astype(np.int64) // 2 for n in (height, width))
    return around(u[:, 0], u[:, 1], half_h, half_w, height, width)


def _clipped_half(lam: Numbers, u: Numbers, height: int, width: int) -> Edges:
    """Half sides ``int(W √(1 − λ) / 2)``: torchvision's order of rounding."""
    half = 0.5 * np.sqrt(1 - lam)
    half_h, half_w = ((n * half).astype(np.int64) for n in (height, width))
    return around(u[:, 0], u[:, 1], half_h, half_w, height, width)


def _inside(lam: Numbers, u: Numbers, height: int, width: int) -> Edges:
    """Sides as for ``clipped``, placed uniformly where the whole box lies inside the image."""
    side = np.sqrt(1 - lam)
    h, w = ((n * side).astype(np.int64) for n in (height, width))
    top, left = _whole(u[:, 0], height - h + 1), _whole(u[:, 1], width - w + 1)
    return top, top + h, left, left + w


def _corners(lam: Numbers, u: Numbers, height: int, width: int) -> Edges:
    """Two different uniform edges per axis, ordered: never empty, and λ only follows from the box."""
    del lam
    return (*_two_edges(u[:, 0], u[:, 2], height), *_two_edges(u[:, 1], u[:, 3], width))


def _two_edges(u: Numbers, v: Numbers, size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    first, second = _whole(u, size + 1), _whole(v, size)
    second = second + (second >= first)  # the other `size` edges, each equally likely
    return np.minimum(first, second), np.maximum(first, second)


BOXES: dict[str, tuple[BoxRule, str]] = {
    "clipped": (
        _clipped,
        "sides int(W √(1 − λ)), half sizes rounded down, uniform centre, clipped at the borders",
    ),
    "clipped_half": (
        _clipped_half,
        "half sides int(W √(1 − λ) / 2), uniform centre, clipped at the borders",
    ),
    "inside": (_inside, "sides int(W √(1 − λ)), placed uniformly inside the image"),
    "corners": (_corners, "two ordered uniform edges per axis, never empty; α plays no part"),
}
