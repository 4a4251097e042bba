"""AutoAugment: learnt pairs of image operations, applied to uint8 pixels."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from kdstats.errors import unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.keys import integers, uniforms
from kdstats.schemes.scheme import Scheme
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
_SIGNED = {
    "ShearX",
    "ShearY",
    "TranslateX",
    "TranslateY",
    "Rotate",
    "Brightness",
    "Color",
    "Contrast",
    "Sharpness",
}

Step = tuple[str, float, int | None]


def _parse(table: str) -> list[tuple[Step, Step]]:
    def step(text: str) -> Step:
        name, probability, magnitude = text.split()
        return name, float(probability), None if magnitude == "-" else int(magnitude)

    rows = [row.split(",") for row in table.replace("\n", " ").split(";")]
    return [(step(a), step(b)) for a, b in rows]


POLICIES = {name: _parse(table) for name, table in _TABLES.items()}


@lru_cache(maxsize=1024)
def magnitude_of(operation: str, level: int | None, height: int, width: int) -> float:
    """The strength of an operation at bin ``level`` of 0…9, as torchvision defines the ten bins.

    In float32, as torchvision's table: in float64 some grey levels round to their neighbour.
    """
    if level is None:
        return 0.0
    if operation == "Posterize":
        # torch rounds half to even, as its reference table does.
        return float(torch.round(torch.tensor(8 - level / (9 / 4))))
    if operation == "Solarize":
        return 255.0 * float(torch.linspace(1.0, 0.0, 10)[level])
    top = {
        "ShearX": 0.3,
        "ShearY": 0.3,
        "TranslateX": 150.0 / 331.0 * width,
        "TranslateY": 150.0 / 331.0 * height,
        "Rotate": 30.0,
    }
    return float(torch.linspace(0.0, top.get(operation, 0.9), 10)[level])


def operate(pixels: Tensor, operation: str, magnitude: float) -> Tensor:
    """One operation on uint8 images ``[B, 1 or 3, H, W]`` by torchvision's own functions."""
    from torchvision.transforms.v2 import functional as tv

    def shear(x: float, y: float) -> Tensor:
        angles = [math.degrees(math.atan(x)), math.degrees(math.atan(y))]
        out: Tensor = tv.affine(pixels, angle=0.0, translate=[0, 0], scale=1.0, shear=angles, center=[0, 0])
        return out

    def shift(x: int, y: int) -> Tensor:
        out: Tensor = tv.affine(pixels, angle=0.0, translate=[x, y], scale=1.0, shear=[0.0, 0.0])
        return out

    table: dict[str, Callable[[], Tensor]] = {
        "ShearX": lambda: shear(magnitude, 0.0),
        "ShearY": lambda: shear(0.0, magnitude),
        "TranslateX": lambda: shift(int(magnitude), 0),
        "TranslateY": lambda: shift(0, int(magnitude)),
        "Rotate": lambda: tv.rotate(pixels, angle=magnitude),
        "Brightness": lambda: tv.adjust_brightness(pixels, 1.0 + magnitude),
        "Color": lambda: tv.adjust_saturation(pixels, 1.0 + magnitude),
        "Contrast": lambda: tv.adjust_contrast(pixels, 1.0 + magnitude),
        "Sharpness": lambda: tv.adjust_sharpness(pixels, 1.0 + magnitude),
        "Posterize": lambda: tv.posterize(pixels, int(magnitude)),
        "Solarize": lambda: tv.solarize(pixels, magnitude),
        "AutoContrast": lambda: tv.autocontrast(pixels),
        "Equalize": lambda: tv.equalize(pixels),
        "Invert": lambda: tv.invert(pixels),
    }
    return table[operation]()


class AutoAugment(Scheme):
    """AutoAugment (Cubuk et al. 2019): one of 25 sub-policies, each two operations with their probabilities.

    Operations run on uint8 pixels, so the images pass through :class:`PixelSpace`; the published T. stddev runs
    call it once per batch (``draws="batch"``). Per-sample draws are grouped by operation, at most a few dozen
    groups whatever the batch size.
    """

    def __init__(
        self, name: str, draws: str = "batch", space: PixelSpace | None = None, *, policy: str = "cifar10"
    ) -> None:
        super().__init__(name, draws, space)
        if policy not in POLICIES:
            raise unknown("AutoAugment policy", policy, POLICIES)
        self.policy = POLICIES[policy]

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        u = uniforms(self.draws, sample_id, 5, gen)
        sub = integers(u[:, 0], 0, len(self.policy) - 1)
        chance = torch.tensor([[a[1], b[1]] for a, b in self.policy], dtype=torch.float64)[sub]
        return Draw(self.name, {"sub": sub, "act": u[:, 1:3] < chance, "negative": u[:, 3:5] < 0.5})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        sub, act, negative = (draw.params[k] for k in ("sub", "act", "negative"))
        pixels = self.space.to_uint8(images)
        for position in (0, 1):
            steps = [row[position] for row in self.policy]
            todo: dict[tuple[str, float], list[int]] = {}
            for i, (s, active, minus) in enumerate(
                zip(sub.tolist(), act[:, position].tolist(), negative[:, position].tolist(), strict=True)
            ):
                if active:
                    operation, _, level = steps[s]
                    strength = magnitude_of(operation, level, *images.shape[2:])
                    signed = -strength if minus and operation in _SIGNED else strength
                    todo.setdefault((operation, signed), []).append(i)
            pixels = self._perform(pixels, todo, whole=len(sub) == 1)
        return self.space.from_uint8(pixels, images.dtype)

    @staticmethod
    def _perform(pixels: Tensor, todo: dict[tuple[str, float], list[int]], *, whole: bool) -> Tensor:
        for (operation, strength), rows in todo.items():
            if whole:
                return operate(pixels, operation, strength)
            where = torch.tensor(rows, device=pixels.device)
            pixels = pixels.index_copy(0, where, operate(pixels[where], operation, strength))
        return pixels
