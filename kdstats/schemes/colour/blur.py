"""Gaussian blur, the last part of Dual Teacher's strong view (Na et al., NeurIPS 2023)."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.pieces import change_where, rows_of
from kdstats.schemes.ranges import Interval, in_words, interval
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace

# Pixels. The weight of the next pixel is exp(−50) there: nothing is blurred, and σ² is still far from zero.
LEAST_SIGMA = 0.1


def radius(sigma: float, size: int) -> int:
    """Half the kernel, in pixels: four σ rounded up, at most ``size`` − 1.

    The kernel has 2·radius + 1 taps. Four σ leave out less than 1e-4 of the Gaussian's mass; where the image is
    smaller than that, reflection about the border pixel has nothing to give beyond ``size`` − 1 pixels.
    """
    return min(math.ceil(4 * sigma), size - 1)


def gaussian(sigma: Tensor, reach: int) -> Tensor:
    """``[n]`` σ in pixels → ``[n, 2·reach + 1]`` float32 weights ∝ exp(−x²/2σ²) at whole pixels, each row sums to 1."""
    x = torch.arange(-reach, reach + 1, dtype=torch.float64, device=sigma.device)
    return torch.softmax(-((x / sigma.double()[:, None]) ** 2) / 2, dim=1).float()


def smooth(x: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Convolves ``x`` along rows or columns with symmetric kernels, borders reflected (the edge not repeated).

    Sums of shifted images instead of a grouped convolution: as fast (one thread, 64x3x32x32 and 256x3x64x64, 11
    taps), the same bits whatever else is in the batch, and no reduced-precision path on any device.

    Args:
        x: ``[n, channels, H, W]`` float32.
        weights: ``[1 or n, 2·reach + 1]``, reach below the size along ``dim``.
        dim: 2 (down the columns) or 3 (along the rows).
    """
    reach, size = weights.shape[1] // 2, x.shape[dim]
    padded = functional.pad(x, [reach, reach, 0, 0] if dim == 3 else [0, 0, reach, reach], mode="reflect")
    columns = weights.view(len(weights), -1, 1, 1, 1)
    out = x * columns[:, reach]
    both = torch.empty_like(out)
    for away in range(1, reach + 1):
        torch.add(padded.narrow(dim, reach - away, size), padded.narrow(dim, reach + away, size), out=both)
        out.addcmul_(both, columns[:, reach + away])
    return out


class GaussianBlur(Scheme):
    """Blurred by a Gaussian of σ uniform in ``sigma`` (pixels), with probability ``p``.

    Dual Teacher blurs with σ 0.15–1.15 and probability 0.5. The kernel is sized by the largest σ
    (:func:`radius`), so that it does not depend on the draw. Worked out in normalised space as it is: the
    weights sum to 1 and reflection brings in no new values (zero padding would), so blurring a·x + b gives
    a·blur(x) + b, and un-normalising first would change nothing.

    Raises:
        UsageError: A σ below :data:`LEAST_SIGMA`, a range the wrong way round, a probability outside 0…1.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        sigma: Interval = (0.15, 1.15),
        p: float = 0.5,
    ) -> None:
        super().__init__(name, draws, space)
        if not 0 <= p <= 1:
            raise UsageError(f"{name}: the probability of a blur lies in 0…1, not {p}")
        self.sigma, self.p = interval(name, "sigma", sigma, LEAST_SIGMA), p

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        per, (low, high) = self.per, self.sigma
        return {
            "probability": f"{self.p:g} of a blur, one draw per {per}",
            "draw": f"σ {in_words(low, high)} pixels, one per {per}; kernel of "
            f"{2 * math.ceil(4 * high) + 1} taps (4 σ either way at the largest σ, as far as the image reaches)",
            "fill": "borders reflected",
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u, (low, high) = uniforms(self.draws, sample_id, 2, gen), self.sigma
        return Draw(self.name, {"on": u[:, 0] < self.p, "sigma": (low + (high - low) * u[:, 1]).float()})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        down, along = (radius(self.sigma[1], size) for size in images.shape[2:])

        def change(some: Tensor, rows: Tensor) -> Tensor:
            sigma = rows_of(draw.params["sigma"], rows).to(some.device)
            x = smooth(some.float(), gaussian(sigma, down), 2)
            return smooth(x, gaussian(sigma, along), 3).to(some.dtype)

        return change_where(images, draw.params["on"], change)
