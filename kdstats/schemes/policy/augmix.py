"""AugMix: the image mixed with several chains of operations on itself."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import integers, uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.policy.on_pixels import OnPixels
from kdstats.schemes.policy.operations import BLENDS, OPERATIONS, Ranges, operate_each, scales, strengths
from kdstats.schemes.space import PixelSpace

BINS = 10
RANGES = Ranges(shift=1.0 / 3.0, bits=(4, 0))
ENHANCERS = (*BLENDS, "Sharpness")
_LONGEST = 3  # of a chain of random depth


LEAST_ALPHA = 0.01


def dirichlet(u: Tensor, alpha: float) -> Tensor:
    """``[n, k]`` uniforms → ``[n, k]`` weights from the symmetric Dirichlet(alpha), float64; rows sum to 1.

    Normalised gamma quantiles (Devroye 1986, chapter XI.4), so that one uniform makes one weight.
    """
    from scipy.special import gammaincinv

    # Below, quantiles of a small alpha underflow and a row of zeros could not be normalised.
    gamma = torch.from_numpy(gammaincinv(alpha, u.numpy())).clamp_(min=1e-300)
    return gamma / gamma.sum(1, keepdim=True)


class AugMix(OnPixels):
    """AugMix (Hendrycks et al. 2020): ``m₀ · image + m₁ · Σ wᵢ · chainᵢ(image)`` in grey levels, fractions dropped.

    The thirteen operations (nine without ``all_ops``), their ranges cut into ten strengths of which the weakest
    ``severity`` are drawn, bilinear interpolation, black from outside, and the defaults are those of
    ``torchvision.transforms.v2.AugMix``. Dropping the fractions of the sum is torchvision's too; it darkens views
    by half a grey level on average. Per batch, chains *and* weights are drawn once for all images; torchvision's
    own call on a batch draws the chains once, but weights for every image.

    Args:
        severity: Strengths in use, 1…10: positions 0…severity − 1 of the scales.
        mixture_width: Chains.
        chain_depth: Operations in each chain, or −1 for one to three, drawn for each chain.
        alpha: Of the Dirichlet distribution of w and the Beta distribution of m₁ = 1 − m₀.
        all_ops: Also brightness, colour, contrast and sharpness, which the paper leaves out because its test
            corruptions hold them.
        quantise: See :class:`OnPixels`.

    Raises:
        UsageError: A parameter out of its range.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        severity: int = 3,
        mixture_width: int = 3,
        chain_depth: int = -1,
        alpha: float = 1.0,
        all_ops: bool = True,
        quantise: str = "round",
    ) -> None:
        super().__init__(name, draws, space, quantise)
        if not 1 <= severity <= BINS:
            raise UsageError(f"{name}: severity lies in 1…{BINS}, not {severity}")
        if not 1 <= mixture_width <= 64:
            raise UsageError(f"{name}: mixture_width lies in 1…64, not {mixture_width}")
        if chain_depth != -1 and not 1 <= chain_depth <= 64:
            raise UsageError(
                f"{name}: chain_depth lies in 1…64, or is -1 for random depths, not {chain_depth}"
            )
        if (
            not LEAST_ALPHA <= alpha < float("inf")
        ):  # below, gamma quantiles underflow and weights come out equal
            raise UsageError(
                f"{name}: alpha of the Dirichlet distribution is at least {LEAST_ALPHA}, not {alpha}"
            )
        self.severity, self.mixture_width, self.chain_depth = severity, mixture_width, chain_depth
        self.alpha, self.all_ops = alpha, all_ops
        left_out = ("Identity", "Invert", *(() if all_ops else ENHANCERS))
        self._choices = torch.tensor([i for i, n in enumerate(OPERATIONS) if n not in left_out])
        self._longest = _LONGEST if chain_depth == -1 else chain_depth

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        depth = f"1…{_LONGEST}" if self.chain_depth == -1 else f"{self.chain_depth}"
        alpha = f"{self.alpha:g}"
        return {
            "draw": f"{self.mixture_width} chains of {depth} of {len(self._choices)} operations at strengths "
            f"0…{self.severity - 1} of 0…{BINS - 1} in either direction (even odds); weights of the chains "
            f"~ Dirichlet({alpha}), their share of the view ~ Beta({alpha}, {alpha}); per {self.per}",
            **super().rules(),
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        from scipy.special import betaincinv

        width, longest = self.mixture_width, self._longest
        u = uniforms(self.draws, sample_id, 1 + 2 * width + 3 * width * longest, gen)
        share, weight, depth, rest = torch.split(u, [1, width, width, 3 * width * longest], dim=1)
        which, level, coin = rest.view(-1, 3, width, longest).unbind(1)
        mixed = torch.from_numpy(betaincinv(self.alpha, self.alpha, share.numpy()))
        low = 1 if self.chain_depth == -1 else longest
        params = {
            "share": torch.cat([1 - mixed, mixed], 1).float(),
            "weight": dirichlet(weight, self.alpha).float(),
            "depth": integers(depth, low, longest),
            "operation": self._choices[integers(which, 0, len(self._choices) - 1)],
            "level": integers(level, 0, self.severity - 1),
            "negative": coin < 0.5,
        }
        return Draw(self.name, params)

    def _change(self, pixels: Tensor, draw: Draw) -> Tensor:
        p = draw.params
        share, weight = p["share"], p["weight"] * p["share"][:, 1:]
        mixed = _column(share[:, 0], pixels) * pixels
        for i, chain in enumerate(self._chains(pixels, draw)):
            mixed.add_(_column(weight[:, i], pixels) * chain)
        return mixed.to(torch.uint8)

    def _chains(self, pixels: Tensor, draw: Draw) -> list[Tensor]:
        """One batch of uint8 images per chain."""
        p, width = draw.params, self.mixture_width
        operation, depth = p["operation"], p["depth"]
        strength = strengths(scales(RANGES, BINS, *pixels.shape[2:]), operation, p["level"], p["negative"])
        if len(operation) == 1:
            return [self._chain(pixels, operation[:, i], strength[:, i], depth[:, i]) for i in range(width)]
        # One long batch of all chains: the groups of operations are fewer and larger.
        folded = self._chain(
            pixels.repeat(width, 1, 1, 1),
            operation.transpose(0, 1).flatten(0, 1),
            strength.transpose(0, 1).flatten(0, 1),
            depth.T.flatten(),
        )
        return list(folded.chunk(width))

    def _chain(self, pixels: Tensor, operation: Tensor, strength: Tensor, depth: Tensor) -> Tensor:
        """``operation`` and ``strength``: ``[1 or n, longest]``; ``depth``: ``[1 or n]``, how many of them act."""
        for step in range(self._longest):
            pixels = operate_each(pixels, operation[:, step], strength[:, step], step < depth, "bilinear")
        return pixels


def _column(values: Tensor, pixels: Tensor) -> Tensor:
    return values.to(pixels.device).view(-1, 1, 1, 1)
