"""AutoAugment: learnt pairs of image operations, applied to uint8 pixels."""

from __future__ import annotations

import torch
from torch import Tensor

from kdstats.draws.keys import integers, uniforms
from kdstats.errors import unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.policy.on_pixels import OnPixels
from kdstats.schemes.policy.operations import OPERATIONS, Ranges, operate_each, scales, strengths
from kdstats.schemes.space import PixelSpace

# (operation, probability, magnitude bin 0…9) twice per sub-policy: Cubuk et al. 2019, tables 7 and 9.
_TABLES = {
    "cifar10": """
        Invert .1 -, Contrast .2 6; Rotate .7 2, TranslateX .3 9; Sharpness .8 1, Sharpness .9 3;
        ShearY .5 8, TranslateY .7 9; AutoContrast .5 -, Equalize .9 -; ShearY .2 7, Posterize .3 7;
        Color .4 3, Brightness .6 7; Sharpness .3 9, Brightness .7 9; Equalize .6 -, Equalize .5 -;
        Contrast .6 7, Sharpness .6 5; Color .7 7, TranslateX .5 8; Equalize .3 -, AutoContrast .4 -;
        TranslateY .4 3, Sharpness .2 6; Brightness .9 6, Color .2 8; Solarize .5 2, Invert .0 -;
        Equalize .2 -, AutoContrast .6 -; Equalize .2 -, Equalize .6 -; Color .9 9, Equalize .6 -;
        AutoContrast .8 -, Solarize .2 8; Brightness .1 3, Color .7 0; Solarize .4 5, AutoContrast .9 -;
        TranslateY .9 9, TranslateY .7 9; AutoContrast .9 -, Solarize .8 3; Equalize .8 -, Invert .1 -;
        TranslateY .7 9, AutoContrast .9 -""",
    "imagenet": """
        Posterize .4 8, Rotate .6 9; Solarize .6 5, AutoContrast .6 -; Equalize .8 -, Equalize .6 -;
        Posterize .6 7, Posterize .6 6; Equalize .4 -, Solarize .2 4; Equalize .4 -, Rotate .8 8;
        Solarize .6 3, Equalize .6 -; Posterize .8 5, Equalize 1 -; Rotate .2 3, Solarize .6 8;
        Equalize .6 -, Posterize .4 6; Rotate .8 8, Color .4 0; Rotate .4 9, Equalize .6 -;
        Equalize .0 -, Equalize .8 -; Invert .6 -, Equalize 1 -; Color .6 4, Contrast 1 8;
        Rotate .8 8, Color 1 2; Color .8 8, Solarize .8 7; Sharpness .4 7, Invert .6 -;
        ShearX .6 5, Equalize 1 -; Color .4 0, Equalize .6 -; Equalize .4 -, Solarize .2 4;
        Solarize .6 5, AutoContrast .6 -; Invert .6 -, Equalize 1 -; Color .6 4, Contrast 1 8;
        Equalize .8 -, Equalize .6 -""",
}
BINS = 10

Step = tuple[str, float, int | None]


def _parse(table: str) -> list[tuple[Step, Step]]:
    def step(text: str) -> Step:
        name, probability, magnitude = text.split()
        return name, float(probability), None if magnitude == "-" else int(magnitude)

    rows = [row.split(",") for row in table.replace("\n", " ").split(";")]
    return [(step(a), step(b)) for a, b in rows]


POLICIES = {name: _parse(table) for name, table in _TABLES.items()}


class AutoAugment(OnPixels):
    """AutoAugment (Cubuk et al. 2019): one of 25 sub-policies, each two operations with their probabilities.

    Strengths as torchvision's (nearest neighbour, black from outside). The published T. stddev runs call it once
    per batch (``draws="batch"``) on uint8 pixels that were truncated (``quantise="truncate"``).

    ``policy`` is ``cifar10`` (Good-DA-in-KD: CIFAR) or ``imagenet`` (Tiny ImageNet, ImageNet).

    Raises:
        UsageError: No such policy, or no such way through uint8.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        policy: str = "cifar10",
        quantise: str = "round",
    ) -> None:
        super().__init__(name, draws, space, quantise)
        if policy not in POLICIES:
            raise unknown("AutoAugment policy", policy, POLICIES)
        self.policy = policy
        steps = POLICIES[policy]
        self._chance = torch.tensor([[p for _, p, _ in pair] for pair in steps], dtype=torch.float64)
        self._operation = torch.tensor([[OPERATIONS.index(o) for o, _, _ in pair] for pair in steps])
        self._level = torch.tensor([[level or 0 for _, _, level in pair] for pair in steps])

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        return {
            "probability": "of each operation as the policy says, 0…1",
            "draw": f"one of the {len(self._chance)} sub-policies of {self.policy}, which of its two operations act, "
            f"and in which direction (even odds), per {self.per}",
            **super().rules(),
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 5, gen)
        sub = integers(u[:, 0], 0, len(self._chance) - 1)
        return Draw(
            self.name, {"sub": sub, "act": u[:, 1:3] < self._chance[sub], "negative": u[:, 3:5] < 0.5}
        )

    def _change(self, pixels: Tensor, draw: Draw) -> Tensor:
        sub, act, negative = (draw.params[k] for k in ("sub", "act", "negative"))
        operation = self._operation[sub]
        table = scales(Ranges(), BINS, *pixels.shape[2:])
        strength = strengths(table, operation, self._level[sub], negative)
        for step in range(operation.shape[1]):
            pixels = operate_each(pixels, operation[:, step], strength[:, step], act[:, step])
        return pixels
