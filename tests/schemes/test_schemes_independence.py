"""What a scheme draws for one image is independent of what else it draws for it, and rates are what they say."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from kdstats import schemes
from kdstats.draws.keys import generator

MANY = 40_000
SIZE = 32
# Parameters that are functions of each other: λ of its box or patches, the box's edges of one another.
SCHEMES = (
    *(
        "flip",
        "crop_flip",
        "cutout",
        "random_erasing",
        "mixup",
        "mixup(partner=derangement)",
        "cutmix",
        "patchmix",
    ),
    *("cutmix(partner=permutation)", "full_mixup", "cutmix(p=0.5)", "flip(p=0.3)+cutmix", "crop_flip+cutout"),
    *("color_jitter", "gaussian_blur", "masking", "randaugment", "trivialaugment", "autoaugment"),
)


def columns(draw: schemes.Draw, prefix: str = "") -> dict[str, np.ndarray]:
    """Scalars per image: places of boxes by their middles, partners by the rank of their own place."""
    out: dict[str, np.ndarray] = {}
    for key, value in draw.params.items():
        found = value.double().numpy().reshape(len(value), -1)
        if key == "box":
            inside = (found[:, 1] > found[:, 0]) & (found[:, 3] > found[:, 2])
            for axis, (low, high) in (("y", (0, 1)), ("x", (2, 3))):
                middle = np.where(inside, found[:, low] + found[:, high], SIZE)
                out[f"{prefix}{key} {axis}"] = middle
        elif key in ("replaced", "hidden"):
            out |= {f"{prefix}{key} {i}": found[:, i] for i in range(0, found.shape[1], 5)}
        elif len(value) == MANY and found.shape[1] <= 4:
            out |= {f"{prefix}{key} {i}": found[:, i] for i in range(found.shape[1])}
    for i, part in enumerate(draw.parts):
        out |= columns(part, f"{prefix}part {i} ")
    return out


def related(a: str, b: str) -> bool:
    """Pairs that hang together by definition."""
    a, b = sorted((a, b))
    by_share = any("lam" in x for x in (a, b)) and any(y in x for x in (a, b) for y in ("replaced", "acts"))
    same = a.rstrip("0123456789 ") == b.rstrip("0123456789 ") and any(
        k in a for k in ("order", "hidden", "replaced")
    )
    from_box = "lam" in b and "box" in a  # λ is counted from the box
    return (
        from_box or by_share or same or ("sub" in b and "act" in a)
    )  # how likely a step acts belongs to the sub-policy


def by_size(a: str, b: str) -> bool:
    """A large box has its middle, as clipped or placed, near that of the image on both axes."""
    return "box" in a and "box" in b


@pytest.mark.parametrize("name", SCHEMES)
def test_parameters_of_an_image_are_uncorrelated(name):
    scheme = schemes.get(name, draws="sample")
    hollow = torch.zeros(1, 3, SIZE, SIZE).expand(MANY, 3, SIZE, SIZE)
    found = columns(scheme._draw(hollow, torch.arange(MANY) * 3 + 1, generator(11, name)))
    found = {key: value for key, value in found.items() if value.std() > 0}
    pairs = [pair for pair in itertools.combinations(found, 2) if not related(*pair)]
    # As many standard errors as the number of pairs asks for, at one false alarm in a thousand runs.
    limit = (math.sqrt(2 * math.log(max(len(pairs), 2) * 1000)) + 0.5) / math.sqrt(MANY)
    for a, b in pairs:
        assert abs(np.corrcoef(found[a], found[b])[0, 1]) < limit, (a, b)
        # A dependence that is symmetric shows in the distance from the middle.
        u, v = (np.abs(x - np.median(x)) for x in (found[a], found[b]))
        if u.std() > 0 and v.std() > 0 and not by_size(a, b):
            assert abs(np.corrcoef(u, v)[0, 1]) < limit, (a, b, "distance from the middle")


@pytest.mark.parametrize(
    "name",
    [
        "mixup",
        "mixup(partner=derangement)",
        "cutmix",
        "cutmix(partner=permutation)",
        "patchmix",
        "full_mixup",
    ],
)
def test_partners_follow_no_other_parameter(name):
    """Images whose boxes, λ or patches are alike must not be paired more often: neighbours would share a number."""
    scheme = schemes.get(name, draws="sample")
    hollow = torch.zeros(1, 3, SIZE, SIZE).expand(MANY, 3, SIZE, SIZE)
    draw = scheme._draw(hollow, torch.arange(MANY), generator(12, name))
    partner, index = draw.params["partner"].numpy(), draw.params.get("index", torch.arange(MANY)).numpy()
    for key, value in columns(draw).items():
        if "partner" in key or "index" in key or value.std() == 0:
            continue
        by_image = np.empty(MANY)
        by_image[index] = value  # parameters of a view belong to its base image
        r = np.corrcoef(by_image[index], by_image[partner])[0, 1]
        assert abs(r) < 4.5 / math.sqrt(MANY), key


@pytest.mark.parametrize(
    ("name", "key", "rate"),
    [
        ("flip", "flipped", 0.5),
        ("flip(p=0.3)", "flipped", 0.3),
        ("crop_flip", "flipped", 0.5),
        ("crop_flip(flip_p=0.8)", "flipped", 0.8),
        ("cutmix(p=0.25)", "acts", 0.25),
        ("grayscale", "on", 0.2),
        ("gaussian_blur", "on", 0.5),
        ("color_jitter", "on", 0.8),
    ],
)
def test_rates(name, key, rate):
    hollow = torch.zeros(1, 3, SIZE, SIZE).expand(MANY, 3, SIZE, SIZE)
    scheme = schemes.get(name, draws="sample")
    drawn = scheme._draw(hollow, torch.arange(MANY), generator(13, name)).params[key]
    assert float(drawn.float().mean()) == pytest.approx(rate, abs=4 * math.sqrt(rate * (1 - rate) / MANY))


def test_steps_of_one_epoch_share_no_numbers_between_images():
    """Draws per sample use one key for a whole epoch: the ids alone must keep the images of its steps apart."""
    scheme = schemes.get("cutmix", draws="sample")
    x = torch.zeros(64, 3, SIZE, SIZE)
    lam = [
        scheme._draw(x, torch.arange(64) + 64 * step, generator(14)).params["box"].double().sum(1).numpy()
        for step in range(400)
    ]
    assert abs(np.corrcoef(np.concatenate(lam[:-1]), np.concatenate(lam[1:]))[0, 1]) < 4 / math.sqrt(64 * 399)
