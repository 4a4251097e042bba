"""Random erasing: a rectangle of random size, shape and place set to one value."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.ranges import Interval, in_words, interval
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace

ATTEMPTS = 10
UNIFORMS = 2 * ATTEMPTS + 2
LEAST_RATIO = 1e-3  # its logarithm must exist, and a hole a thousand times as wide as high has no whole row


def rectangles(
    u: Tensor, height: int, width: int, scale: tuple[float, float], ratio: tuple[float, float]
) -> Tensor:
    """The first of ten random rectangles that is smaller than the image both ways, at a uniform place.

    The rule of Zhong et al. 2020 as torchvision words it: area share uniform in ``scale``, log(height / width)
    uniform between the logs of ``ratio``, sides rounded (halves to even).

    Args:
        u: ``[n, UNIFORMS]`` float64 in [0, 1): share and aspect of each attempt in turn, then top and left.
        height: Of the image.
        width: Of the image.
        scale: Least and greatest share of the area.
        ratio: Least and greatest height / width.

    Returns:
        Boxes ``[n, 4]`` int64 (top, bottom, left, right), ends excluded; all zeros where none of the ten fitted.
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    numbers = u.numpy()  # many small steps, and NumPy starts each in a fraction of torch's time
    area = height * width * (scale[0] + (scale[1] - scale[0]) * numbers[:, 0 : 2 * ATTEMPTS : 2])
    aspect = np.exp(low + (high - low) * numbers[:, 1 : 2 * ATTEMPTS : 2])
    tall, wide = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
    fits = (tall < height) & (wide < width)
    row, first = np.arange(len(fits)), fits.argmax(1)  # the first of several largest
    found, tall, wide = fits[row, first], tall[row, first], wide[row, first]
    # u < 1, so the floor never reaches the number of places.
    top = np.floor(numbers[:, -2] * (height - tall + 1))
    left = np.floor(numbers[:, -1] * (width - wide + 1))
    box = np.stack([top, top + tall, left, left + wide], axis=1) * found[:, None]
    return torch.from_numpy(box.astype(np.int64))


def inside(first: Tensor, end: Tensor, size: int, like: Tensor) -> Tensor:
    """``[n, size]`` in the dtype of ``like``: 1 from ``first`` to before ``end``, 0 elsewhere."""
    places = torch.arange(size, device=like.device)
    return ((places >= first[:, None]) & (places < end[:, None])).to(like.dtype)


class RandomErasing(Scheme):
    """Random erasing (Zhong et al., AAAI 2020), torchvision's rule and defaults.

    With probability ``p`` one rectangle is set to ``value`` in normalised space; 0, the default, is the mean
    colour of the data set. Where none of ten rectangles fits into the image nothing is erased.

    Raises:
        UsageError: A probability outside 0…1, shares outside 0…1, a ratio below 0.001, a range the wrong way
            round, a value that is not finite.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        p: float = 0.5,
        scale: Interval = (0.02, 0.33),
        ratio: Interval = (0.3, 3.3),
        value: float = 0.0,
    ) -> None:
        super().__init__(name, draws, space)
        if not 0 <= p <= 1:
            raise UsageError(f"{name}: the probability of a hole lies in 0…1, not {p}")
        if not math.isfinite(value):
            raise UsageError(
                f"{name}: the hole is filled with a finite number in normalised space, not {value}"
            )
        self.p, self.value = p, value
        self.scale = interval(name, "scale", scale, 0, 1)
        self.ratio = interval(name, "ratio", ratio, LEAST_RATIO)

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        per = self.per
        return {
            "probability": f"{self.p:g} of a hole, one draw per {per}",
            "draw": f"share of the area {in_words(*self.scale)}, "
            f"height / width {in_words(*self.ratio, 'log-uniform in')}",
            "box": f"sides rounded; the first of {ATTEMPTS} that is smaller than the image both ways, else none; "
            f"anywhere inside, uniform; one per {per}",
            "fill": "the mean colour (0 in normalised space)"
            if self.value == 0
            else f"{self.value:g} in normalised space",
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 1 + UNIFORMS, gen)
        height, width = images.shape[2:]
        box = rectangles(u[:, 1:], height, width, self.scale, self.ratio)
        return Draw(self.name, {"box": box.mul_(u[:, :1] < self.p)})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        box = draw.params["box"]
        if len(box) == 1:
            top, bottom, left, right = box[0].tolist()
            out = images.clone()
            out[:, :, top:bottom, left:right] = self.value
            return out
        # Multiplying by 0 and 1 is several times as fast on a CPU as filling under a mask.
        top, bottom, left, right = box.to(images.device).unbind(1)
        rows = inside(top, bottom, images.shape[2], images)[:, None, :, None]
        hole = rows * inside(left, right, images.shape[3], images)[:, None, None, :]
        out = images * (1 - hole)
        return out.add_(hole, alpha=self.value) if self.value else out
