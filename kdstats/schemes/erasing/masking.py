"""Masking: half of the cells of a coarse grid set to the mean colour, as masked autoencoders see their images."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


def cell_of(size: int, grid: int, device: torch.device) -> Tensor:
    """``[size]`` int64: the cell of each pixel along one axis, floor(pixel · grid / size)."""
    return torch.arange(size, device=device) * grid // size


class Masking(Scheme):
    """``int(ratio · grid²)`` cells of a ``grid`` x ``grid`` raster set to 0 in normalised space, the mean colour.

    Good-DA-in-KD's ``masking`` mode (``n_patch`` 4, ``mask_zero_ratio`` 0.5; after He et al., CVPR 2022), there
    with one mask per batch. Every set of that many cells is equally likely. Sizes that the grid does not
    divide have cells that differ by one pixel.

    Raises:
        UsageError: A grid that is not a whole number from 1 on, a ratio outside 0…1, images smaller than the grid.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        grid: int = 4,
        ratio: float = 0.5,
    ) -> None:
        super().__init__(name, draws, space)
        if not isinstance(grid, int) or grid < 1:
            raise UsageError(f"{name}: the grid is a number of cells per side from 1 on, not {grid}")
        if not 0 <= ratio <= 1:
            raise UsageError(f"{name}: the share of cells to mask lies in 0…1, not {ratio}")
        self.grid, self.ratio = grid, ratio

    @property
    def masked(self) -> int:
        """How many cells are masked."""
        return int(self.ratio * self.grid**2)

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        per = self.per
        return {
            "draw": f"{self.masked} of {self.grid**2} cells, every such set equally likely, one per {per}",
            "box": f"cells of a grid of {self.grid}x{self.grid}, pixel rows by floor(row · {self.grid} / H)",
            "fill": "the mean colour (0 in normalised space)",
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        height, width = images.shape[2:]
        if min(height, width) < self.grid:
            raise UsageError(
                f"{self.name}: a grid of {self.grid}x{self.grid} needs images of at least {self.grid} pixels "
                f"either way, not {height}x{width}"
            )
        cells = self.grid**2
        order = uniforms(self.draws, sample_id, cells, gen).argsort(1)
        hidden = torch.zeros(order.shape, dtype=torch.bool).scatter_(1, order[:, : self.masked], True)
        return Draw(self.name, {"hidden": hidden})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        height, width = images.shape[2:]
        # Multiplying by 0 and 1 is several times as fast on a CPU as filling under a mask.
        kept = (~draw.params["hidden"]).to(images)
        rows, columns = (cell_of(size, self.grid, images.device) for size in (height, width))
        cells = (rows[:, None] * self.grid + columns).flatten()
        return images * kept.index_select(1, cells).view(-1, 1, height, width)
