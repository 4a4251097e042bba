"""Who is mixed with whom: pairings of the images of a batch, by the rules that published codes use."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.errors import UsageError, unknown

PARTNERS = {
    "derangement": "another image: a uniform permutation without a fixed point",
    "permutation": "a uniform permutation; an image may meet itself",
    "reverse": "the batch in reverse order",
    "roll": "the image before it in the batch",
}


# With draws per sample the pairing must follow from the ids alone.
PARTNERS_BY_ID = {
    "derangement": "another image: the next one in a random cyclic order of the batch",
    "permutation": PARTNERS["permutation"],
}


def in_words(rule: str, draws: str) -> str:
    """The rule as it works out at this granularity of draws."""
    return (PARTNERS if draws == "batch" else PARTNERS_BY_ID)[rule]


def derangement(n: int, gen: torch.Generator) -> Tensor:
    """A uniform permutation of n ≥ 2 positions without a fixed point, by rejection (e tries on average).

    Raises:
        UsageError: n < 2, where there is none and the rejection would go on for ever.
    """
    if n < 2:
        raise UsageError(f"a permutation of {n} image without a fixed point does not exist")
    still = torch.arange(n)
    while True:
        order = torch.randperm(n, generator=gen)
        if not bool((order == still).any()):
            return order


def cycle(u: Tensor) -> Tensor:
    """Partners by a random cyclic order: everyone's partner is the next in the order of ``u``.

    Never a fixed point for two or more, each partner uniform over the others, and a function of the ids in
    the batch alone.
    """
    order = torch.argsort(u)
    partner = torch.empty_like(order)
    partner[order] = order.roll(-1)
    return partner


def matched(u: Tensor, v: Tensor) -> Tensor:
    """A uniform permutation with fixed points allowed, a function of the ids alone: equal ranks in u and v meet."""
    partner = torch.empty(len(u), dtype=torch.int64)
    partner[torch.argsort(u)] = torch.argsort(v)
    return partner


def check_rule(name: str, rule: str, draws: str) -> None:
    """Raises ``UsageError`` for an unknown rule, or one by position where draws belong to the images."""
    if rule not in PARTNERS:
        raise unknown("partner rule", rule, PARTNERS)
    if draws == "sample" and rule in ("reverse", "roll"):
        raise UsageError(
            f"{name}: partner={rule} pairs by position in the batch; with draws per sample choose derangement "
            "or permutation"
        )


def batch_partners(rule: str, n: int, gen: torch.Generator) -> Tensor:
    """``[n]`` partners for draws per batch."""
    if rule == "derangement":
        return derangement(n, gen)
    if rule == "permutation":
        return torch.randperm(n, generator=gen)
    return torch.arange(n).flip(0) if rule == "reverse" else torch.arange(n).roll(1)


def sample_partners(rule: str, u: Tensor, v: Tensor) -> Tensor:
    """``[B]`` partners for draws per sample, from two uniform numbers of each image."""
    return cycle(u) if rule == "derangement" else matched(u, v)
