"""mixup in its published forms: views that are a weighted sum of two images of the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.mixing.partners import batch_partners, check_rule, in_words, matched, sample_partners
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


def beta_quantile(u: Tensor, alpha: float) -> Tensor:
    """Beta(alpha, alpha) numbers from uniforms, by the quantile function; alpha = 1 is the uniform itself."""
    if alpha == 1.0:
        return u
    from scipy.special import betaincinv

    return torch.from_numpy(betaincinv(alpha, alpha, u.numpy()))


def check_alpha(name: str, alpha: float) -> float:
    """``alpha`` if it is a parameter of a Beta distribution, else ``UsageError``."""
    if not 0 < alpha < float("inf"):
        raise UsageError(f"{name}: alpha of the Beta distribution is positive, not {alpha}")
    return alpha


def lam_rule(draws: str, alpha: float) -> str:
    """The law of λ in words."""
    return f"λ ~ Beta({alpha:g}, {alpha:g}), one per {'batch' if draws == 'batch' else 'image'}"


class _WeightedSum(Scheme):
    """``λ x[index] + (1 − λ) x[partner]`` with index, partner and λ from the draw; mixes."""

    mixes = True

    def __init__(self, name: str, draws: str, space: PixelSpace | None, alpha: float) -> None:
        super().__init__(name, draws, space)
        self.alpha = check_alpha(name, alpha)

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        lam = draw.params["lam"].to(images).view(-1, 1, 1, 1)
        base = images
        if "index" in draw.params:
            base = images.index_select(0, draw.params["index"].to(images.device))
        other = images.index_select(0, draw.params["partner"].to(images.device))
        return other.lerp_(base, lam)  # λ = 1 gives the base image bit for bit

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        n, p = len(images), draw.params
        return p.get("index", torch.arange(n)), p["partner"], p["lam"].expand(n)


class Mixup(_WeightedSum):
    """mixup (Zhang et al. 2018): ``λ x + (1 − λ) x[partner]``, λ ~ Beta(α, α).

    As in Wang et al. 2022: α = 1, one λ and one permutation per batch, fixed points allowed. timm pairs with
    the batch in reverse, torchvision with the image before.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        alpha: float = 1.0,
        partner: str = "permutation",
    ) -> None:
        super().__init__(name, draws, space, alpha)
        check_rule(name, partner, draws)
        self.partner = partner
        self.least = 2 if partner == "derangement" else 1

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 2 if self.draws == "batch" else 3, gen)
        if self.draws == "batch":
            partner = batch_partners(self.partner, len(images), gen)
        else:
            partner = sample_partners(self.partner, u[:, 1], u[:, 2])
        return Draw(self.name, {"partner": partner, "lam": beta_quantile(u[:, 0], self.alpha).float()})

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            "λ": lam_rule(self.draws, self.alpha) + "; the share of the own image",
            "partner": in_words(self.partner, self.draws),
            "space": "normalised floats",
        }


class FullMixup(_WeightedSum):
    """Full mixup of MIX-KD (Choi et al., WACV 2023): ``λ_i x[P1(i)] + (1 − λ_i) x[P2(i)]``.

    Two independent permutations, so an image meets itself with probability 1/B and appears exactly once in
    either role. Published with one λ ~ Beta(α, α) per image (``draws="sample"``; the preset ``@mixkd``), and
    with no unmixed path beside it.
    """

    def __init__(
        self, name: str, draws: str = "batch", space: PixelSpace | None = None, *, alpha: float = 1.0
    ) -> None:
        super().__init__(name, draws, space, alpha)

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        n = len(images)
        u = uniforms(self.draws, sample_id, 3, gen)
        lam = beta_quantile(u[:, 0], self.alpha).float()
        if self.draws == "batch":
            index, partner = (torch.randperm(n, generator=gen) for _ in range(2))
        else:
            index = torch.argsort(u[:, 1])
            partner = matched(u[:, 1], u[:, 2])[index]
            lam = lam[index]  # λ belongs to the base image, not to its place in the batch
        return Draw(self.name, {"index": index, "partner": partner, "lam": lam})

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            "λ": lam_rule(self.draws, self.alpha) + "; the share of the first permutation's image",
            "partner": "two independent uniform permutations of the batch; an image meets itself 1 time in B",
            "space": "normalised floats",
        }


SAMPLING = ("exact", "with_replacement")


class PartialMixup(FullMixup):
    """Partial mixup of MIX-KD (Choi et al., WACV 2023): full mixup, with λ set to 1 for a share of the views.

    ``unmixed`` is that share (0.9 in the release: "10 % mixed"). With ``sampling="exact"`` it is what it says,
    ``round(unmixed · B)`` views. The release draws ``int(unmixed · B)`` positions *with replacement*, which
    leaves (1 − 1/B)^int(unmixed·B) of the views mixed: 40.8 % at B = 64, not 10 %. That is
    ``sampling="with_replacement"``, and the preset ``@mixkd``.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        alpha: float = 1.0,
        unmixed: float = 0.9,
        sampling: str = "exact",
    ) -> None:
        super().__init__(name, draws, space, alpha=alpha)
        if not 0 <= unmixed <= 1:
            raise UsageError(f"{name}: the unmixed share lies in 0…1, not {unmixed}")
        if sampling not in SAMPLING:
            raise unknown("sampling of the unmixed views", sampling, SAMPLING)
        self.unmixed, self.sampling = unmixed, sampling

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        drawn = super()._draw(images, sample_id, gen).params
        n = len(images)
        if self.draws == "batch":
            u = torch.rand(n, 2, generator=gen, dtype=torch.float64)
        else:  # ranks, and positions by rank, are functions of the ids alone
            u = uniforms("sample", sample_id, 2, gen)
        order = torch.argsort(u[:, 0])
        if self.sampling == "exact":
            still = order[: round(self.unmixed * n)]
        else:
            times = int(n * self.unmixed)
            still = order[torch.floor(u[order[:times], 1] * n).long()]
        kept = torch.zeros(n, dtype=torch.bool)
        kept[still] = True
        kept = kept[drawn["index"]]  # of views, from marks on the images they are based on
        lam = torch.where(kept, torch.ones(()), drawn["lam"].expand(n))
        return Draw(self.name, {**drawn, "lam": lam})

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        share = (
            f"round({self.unmixed:g} B) views, drawn without replacement"
            if self.sampling == "exact"
            else f"int({self.unmixed:g} B) draws with replacement, which mixes (1 − 1/B)^int({self.unmixed:g} B) "
            f"of the views: {(1 - 1 / 64) ** int(64 * self.unmixed):.1%} at B = 64"
        )
        return {**super().rules(), "unmixed": share}
