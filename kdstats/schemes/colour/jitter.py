"""Colour jitter and greyscale, the colour part of Dual Teacher's strong view (Na et al., NeurIPS 2023).

Both think in fractions of one: the normalised images are taken back to [0, 1], changed there in float32 and
normalised again. There is no uint8 step: the published pipelines work on image files and round to grey levels
after every operation, here nothing is rounded, so an operation of strength zero changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kdstats.draws.keys import uniforms
from kdstats.errors import UsageError
from kdstats.schemes.batch import Draw
from kdstats.schemes.pieces import change_where, rows_of
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace

# Luma weights of ITU-R BT.601, rounded as torchvision rounds them; they add up to 0.9999.
LUMA = (0.2989, 0.587, 0.114)


def to_unit(images: Tensor, space: PixelSpace) -> Tensor:
    """Normalised ``[B, channels, H, W]`` → a new float32 tensor of fractions, clamped to [0, 1]."""
    mean, std = _columns(space, images)
    return (images.float() * std).add_(mean).clamp_(0, 1)


def from_unit(fractions: Tensor, space: PixelSpace, dtype: torch.dtype) -> Tensor:
    """The inverse of :func:`to_unit`, in ``dtype``; a new tensor."""
    mean, std = _columns(space, fractions)
    return (fractions - mean).mul_(1 / std).to(dtype)


def _columns(space: PixelSpace, like: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, ``[1, channels or 1, 1, 1]`` float32 each."""
    mean, std = (torch.tensor(v, dtype=torch.float32, device=like.device) for v in (space.mean, space.std))
    return mean.view(1, -1, 1, 1), std.view(1, -1, 1, 1)


def luma(x: Tensor, weights: Sequence[float] = LUMA) -> Tensor:
    """``[n, 3, H, W]`` → ``[n, 1, H, W]``, the weighted sum of the channels; one channel is its own luma."""
    if x.shape[1] == 1:
        return x.clone()
    red, green, blue = x.split_with_sizes((1, 1, 1), 1)
    return (red * weights[0]).add_(green, alpha=weights[1]).add_(blue, alpha=weights[2])


def brighten(x: Tensor, factor: Tensor) -> None:
    """In place: ``x`` times ``factor`` ([1 or n, 1, 1, 1]), clamped to [0, 1]."""
    x.mul_(factor).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> None:
    """In place: away from (factor > 1) or towards the image's mean luma, clamped to [0, 1]."""
    # The luma of the mean colour is the mean of the luma, at a third of the work.
    grey = luma(x.mean((2, 3), keepdim=True))
    x.mul_(factor).add_(grey * (1 - factor)).clamp_(0, 1)


def saturate(x: Tensor, factor: Tensor) -> None:
    """In place: each pixel away from or towards its own luma, clamped to [0, 1]; nothing on one channel."""
    if x.shape[1] == 3:
        grey = luma(x).mul_(1 - factor)
        x.mul_(factor).add_(grey).clamp_(0, 1)


def turn_hue(x: Tensor, turns: Tensor) -> None:
    """In place: the hue of HSV moved by ``turns`` of the colour circle ([1 or n, 1, 1, 1]); nothing on one channel.

    Hue, chroma and lightness by the hexagonal model (Smith 1978, "Color gamut transform pairs"): with the hue h
    in sixths of a turn, channel c = least + chroma · w_c(h), where w_c is 1 around the channel's own place on
    the circle (red 0, green 2, blue 4) and falls to 0 at a distance of two sixths.
    """
    if x.shape[1] == 1:
        return
    red, green, blue = x.split_with_sizes((1, 1, 1), 1)
    most = torch.maximum(green, blue)
    most = torch.maximum(most, red, out=most)
    least = torch.minimum(green, blue)
    least = torch.minimum(least, red, out=least)
    chroma = most.sub_(least)
    # With each channel's share (c − least)/chroma, of which one is 0 and one is 1, the distance from red is
    # 1 + share(green) + share(blue) − share(red), and green > blue says on which side: the usual three cases in
    # one line without a mask. Grey pixels have no hue and no chroma; the divisor only keeps 0/0 out.
    sixths = (green + blue).sub_(red).sub_(least)
    spare = chroma.clamp(min=torch.finfo(x.dtype).tiny)
    sixths.div_(spare).add_(1).copysign_(torch.sub(green, blue, out=spare)).add_(6 * turns)
    sixths.sub_(torch.div(sixths, 6, out=spare).floor_(), alpha=6)
    # In 0…6: 2 − |h − place| for green and blue; red's own place is both 0 and 6, hence |h − 3| − 1.
    torch.sub(sixths, sixths.new_tensor((3.0, 2.0, 4.0)).view(1, 3, 1, 1), out=x).abs_()
    x[:, :1].sub_(1)
    x[:, 1:].neg_().add_(2)
    x.clamp_(0, 1).mul_(chroma).add_(least)


_ACTIONS = {"brightness": brighten, "contrast": contrast, "saturation": saturate, "hue": turn_hue}


def jitter(x: Tensor, factors: dict[str, Tensor], order: Tensor) -> Tensor:
    """The four colour operations, each image in its own order.

    Args:
        x: ``[n, 1 or 3, H, W]`` fractions in [0, 1]; used as scratch space.
        factors: For some of the four operations ``[k]`` factors (hue: turns), k = 1 for all images or n; an
            operation that is left out does nothing when its turn comes.
        order: ``[k, 4]`` int64, row i the operations (by position in brightness, contrast,
            saturation, hue) in the order in which image i gets them.

    Returns:
        ``[n, 1 or 3, H, W]``, ``x`` itself or a new tensor.
    """
    acts = list(_ACTIONS.items())
    table = torch.zeros(len(order), 4, 1, 1, 1)
    for i, (name, _) in enumerate(acts):
        if name in factors:
            table[:, i] = factors[name].view(-1, 1, 1, 1)
    if len(order) == 1:
        for turn in order[0].tolist():
            name, act = acts[turn]
            if name in factors:
                act(x, table[:, turn].to(x.device))
        return x
    # Four steps. At each the images lie sorted by whose turn it is, so that every operation runs once, in place,
    # on neighbours. Column s of `lanes` lists the images as they lie at step s, `places` is its inverse.
    lanes = order.argsort(dim=0, stable=True)
    places = lanes.argsort(dim=0)
    sizes = (order[:, :, None] == torch.arange(4)).sum(0).tolist()
    spare = torch.empty_like(x)
    for step in range(4):
        lane = lanes[:, step]
        moved = lane if step == 0 else places[lane, step - 1]
        x, spare = torch.index_select(x, 0, moved.to(x.device), out=spare), x
        columns = table[lane].to(x.device).split_with_sizes(sizes[step])
        for i, (part, column) in enumerate(zip(x.split_with_sizes(sizes[step]), columns, strict=True)):
            name, act = acts[i]
            if len(part) and name in factors:
                act(part, column[:, i])
    return torch.index_select(x, 0, places[:, 3].to(x.device), out=spare)


class ColorJitter(Scheme):
    """Brightness, contrast, saturation and hue moved at random, in random order, with probability ``p``.

    Dual Teacher's strong view (torchvision's ``ColorJitter`` inside a coin toss). The factors of the first
    three are uniform in [max(0, 1 − strength), 1 + strength], the hue moves by a uniform share of ±``hue``
    turns, all 24 orders are equally likely. On images of one channel brightness and contrast act alone.

    Raises:
        UsageError: A negative strength, a hue outside 0…0.5, a probability outside 0…1; images of other than
            one or three channels.
    """

    def __init__(
        self,
        name: str,
        draws: str = "batch",
        space: PixelSpace | None = None,
        *,
        brightness: float = 0.5,
        contrast: float = 0.5,
        saturation: float = 0.5,
        hue: float = 0.25,
        p: float = 0.8,
    ) -> None:
        super().__init__(name, draws, space)
        strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        for what, strength in strengths.items():
            if not 0 <= strength < math.inf:
                raise UsageError(f"{name}: the strength of {what} is a number from 0 on, not {strength}")
        if not 0 <= hue <= 0.5:
            raise UsageError(f"{name}: the hue moves by 0…0.5 turns either way, not {hue}")
        _check_probability(name, p)
        self.brightness, self.contrast, self.saturation = brightness, contrast, saturation
        self.hue, self.p = hue, p

    def _ranges(self) -> dict[str, tuple[float, float]]:
        """Least and greatest factor of every operation that is not switched off by a strength of zero."""
        strengths = {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation}
        ranges = {name: (max(0.0, 1 - s), 1 + s) for name, s in strengths.items() if s > 0}
        return ranges | ({"hue": (-self.hue, self.hue)} if self.hue > 0 else {})

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        factors = [
            f"hue moved by {low:+g}…{high:+g} turns" if name == "hue" else f"{name} times {low:g}…{high:g}"
            for name, (low, high) in self._ranges().items()
        ]
        return {
            "probability": f"{self.p:g} of a change, {_per(self)}",
            "draw": f"{', '.join(factors) or 'nothing'}, all uniform; one of the 24 orders, equally likely; {_per(self)}",
            "space": "fractions in [0, 1], clamped after every operation, never rounded to grey levels",
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        _check_channels(self.name, images)
        u = uniforms(self.draws, sample_id, 9, gen)
        params = {"on": u[:, 0] < self.p, "order": u[:, 5:].argsort(1)}
        for column, name in enumerate(_ACTIONS, start=1):
            if name in (ranges := self._ranges()):
                low, high = ranges[name]
                params[name] = (low + (high - low) * u[:, column]).float()
        return Draw(self.name, params)

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        p = draw.params

        def change(some: Tensor, rows: Tensor) -> Tensor:
            factors = {name: rows_of(p[name], rows) for name in _ACTIONS if name in p}
            x = jitter(to_unit(some, self.space), factors, rows_of(p["order"], rows))
            return from_unit(x, self.space, some.dtype)

        return change_where(images, p["on"], change)


class Grayscale(Scheme):
    """Every channel set to the luma, with probability ``p``; images of one channel stay as they are.

    Dual Teacher's strong view (torchvision's ``RandomGrayscale``). The luma is that of the fractions in [0, 1],
    not of the normalised values, whose channels have different scales.

    Raises:
        UsageError: A probability outside 0…1; images of other than one or three channels.
    """

    def __init__(
        self, name: str, draws: str = "batch", space: PixelSpace | None = None, *, p: float = 0.2
    ) -> None:
        super().__init__(name, draws, space)
        _check_probability(name, p)
        self.p = p

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        weights = " + ".join(f"{w:g} {c}" for w, c in zip(LUMA, ("red", "green", "blue"), strict=True))
        return {
            "probability": f"{self.p:g} of a change, {_per(self)}",
            "space": f"{weights} of the fractions in [0, 1], in every channel",
        }

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        _check_channels(self.name, images)
        return Draw(self.name, {"on": uniforms(self.draws, sample_id, 1, gen)[:, 0] < self.p})

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        if images.shape[1] == 1:
            return images.clone()

        # The luma of the fractions straight from the normalised values: Σ w (std · x + mean).
        std, mean = (3 * v if len(v) == 1 else v for v in (self.space.std, self.space.mean))
        weights = [w * s for w, s in zip(LUMA, std, strict=True)]
        constant = sum(w * m for w, m in zip(LUMA, mean, strict=True))

        def change(some: Tensor, rows: Tensor) -> Tensor:
            del rows
            grey = luma(some.float(), weights).add_(constant)
            return from_unit(grey.expand(some.shape), self.space, some.dtype)

        return change_where(images, draw.params["on"], change)


def _per(scheme: Scheme) -> str:
    return f"one draw per {'batch' if scheme.draws == 'batch' else 'image'}"


def _check_probability(name: str, p: float) -> None:
    if not 0 <= p <= 1:
        raise UsageError(f"{name}: the probability lies in 0…1, not {p}")


def _check_channels(name: str, images: Tensor) -> None:
    if images.shape[1] not in (1, 3):
        raise UsageError(f"{name} takes images of 1 or 3 channels, not {images.shape[1]}")
