"""AutoAugment against torchvision's own AutoAugment: table, strengths and pixels."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2

from kdstats.draws.keys import generator, uniforms
from kdstats.errors import UsageError
from kdstats.schemes import Draw, PixelSpace
from kdstats.schemes.policy.autoaugment import BINS, POLICIES, AutoAugment
from kdstats.schemes.policy.operations import OPERATIONS, SIGNED, Ranges, scales

THEIRS = {"cifar10": v2.AutoAugmentPolicy.CIFAR10, "imagenet": v2.AutoAugmentPolicy.IMAGENET}


@pytest.mark.parametrize("name", list(THEIRS))
def test_policy_tables(name):
    theirs = v2.AutoAugment(THEIRS[name])._policies
    assert len(theirs) == 25
    assert [tuple(steps) for steps in theirs] == [tuple(steps) for steps in POLICIES[name]]


@pytest.mark.parametrize("size", [32, 64])
def test_strengths(size):
    ours = scales(Ranges(), BINS, size, size)
    for operation, (magnitudes, signed) in v2.AutoAugment()._AUGMENTATION_SPACE.items():
        table = magnitudes(10, size, size)
        expected = [0.0] * 10 if table is None else table.tolist()
        assert ours[OPERATIONS.index(operation)].tolist() == expected, operation
        assert signed == (operation in SIGNED)


class Dictated(v2.AutoAugment):
    """torchvision's AutoAugment with its chances dictated: the sub-policy, which operations act, and the signs."""

    def __init__(self, policy: str, sub: int, act: tuple[bool, bool], negative: tuple[bool, bool]) -> None:
        super().__init__(THEIRS[policy])
        self.policy_name, self.sub, self.act, self.negative = policy, sub, act, negative


def theirs(x: torch.Tensor, made: Dictated, monkeypatch: pytest.MonkeyPatch) -> torch.Tensor:
    steps = made._policies[made.sub]
    # torch.rand is asked once per operation for "does it act", and once more for the sign where there is one.
    answers: list[float] = []
    for (name, _, level), act, negative in zip(steps, made.act, made.negative, strict=True):
        answers.append(0.0 if act else 1.0)
        if act and level is not None and made._AUGMENTATION_SPACE[name][1]:
            answers.append(0.0 if negative else 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(torch, "randint", lambda *a, **k: torch.tensor(made.sub))
        patch.setattr(torch, "rand", lambda *a, **k: torch.tensor(answers.pop(0)))
        out = made(x)
    assert not answers, "torchvision drew less than foreseen: this oracle no longer fits it"
    return out


@pytest.mark.parametrize("policy", list(THEIRS))
def test_views_are_torchvisions_pixel_for_pixel(policy, monkeypatch):
    space = PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    pixels = torch.randint(
        0, 256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    pixels[0, :, 8:24, 8:24] //= 4
    scheme = AutoAugment("autoaugment", space=space, policy=policy)
    changed = 0
    for sub in range(25):
        for act, negative in (
            ((True, True), (False, True)),
            ((True, False), (True, False)),
            ((False, True), (False, False)),
        ):
            probabilities = [p for _, p, _ in POLICIES[policy][sub]]
            if any(a and p == 0 for a, p in zip(act, probabilities, strict=True)):
                continue
            if any(not a and p == 1 for a, p in zip(act, probabilities, strict=True)):
                continue
            params = {
                "sub": torch.tensor([sub]),
                "act": torch.tensor([act]),
                "negative": torch.tensor([negative]),
            }
            ours = scheme.replay(space.from_uint8(pixels, torch.float32), Draw("autoaugment", params))
            expected = theirs(pixels, Dictated(policy, sub, act, negative), monkeypatch)
            assert torch.equal(space.to_uint8(ours), expected), (sub, act, negative)
            changed += not torch.equal(expected, pixels)
    assert changed > 40


def test_sample_draws_apply_each_images_own_sub_policy():
    space = PixelSpace()
    x = space.from_uint8(
        torch.randint(0, 256, (64, 3, 32, 32), generator=torch.Generator().manual_seed(1), dtype=torch.uint8),
        torch.float32,
    )
    scheme = AutoAugment("autoaugment", "sample", space)
    one = AutoAugment("autoaugment", "batch", space)
    found = scheme.apply(x, generator=generator(3))
    for i in range(64):
        alone = Draw("autoaugment", {k: v[i : i + 1] for k, v in found.draw.params.items()})
        assert torch.equal(one.replay(x[i : i + 1], alone)[0], found.images[i])


def test_draws_follow_the_policys_chances():
    scheme = AutoAugment("autoaugment", "sample")
    draw = scheme._draw(torch.zeros(50_000, 1, 1, 1), torch.arange(50_000), generator(4)).params
    sub, act, negative = draw["sub"], draw["act"].double(), draw["negative"].double()
    assert torch.bincount(sub, minlength=25).min() > 1800
    assert float(negative.mean()) == pytest.approx(0.5, abs=0.01)
    for s, steps in enumerate(POLICIES["cifar10"]):
        rows = sub == s
        for position, (_, probability, _) in enumerate(steps):
            assert float(act[rows, position].mean()) == pytest.approx(probability, abs=0.045)


def test_drawing_is_what_it_was():
    """Five uniforms: the sub-policy, two for which operations act, two for their directions."""
    scheme = AutoAugment("autoaugment", "sample", policy="imagenet")
    ids = torch.arange(500) * 3
    draw = scheme._draw(torch.zeros(500, 1, 1, 1), ids, generator(5)).params
    u = uniforms("sample", ids, 5, generator(5))
    assert draw["sub"].tolist() == [int(v * 25) for v in u[:, 0].tolist()]
    chance = [[p for _, p, _ in POLICIES["imagenet"][sub]] for sub in draw["sub"].tolist()]
    assert draw["act"].tolist() == (u[:, 1:3] < torch.tensor(chance, dtype=torch.float64)).tolist()
    assert draw["negative"].tolist() == (u[:, 3:5] < 0.5).tolist()


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize(("channels", "size", "dtype"), [(1, 8, torch.bfloat16), (3, 8, torch.float32)])
def test_small_grey_and_bfloat16(draws, channels, size, dtype):
    space = PixelSpace((0.5,) * channels, (0.25,) * channels)
    scheme = AutoAugment("autoaugment", draws, space)
    x = torch.randn(6, channels, size, size, generator=torch.Generator().manual_seed(2)).to(dtype)
    before = x.clone()
    for key in range(10):
        found = scheme.apply(x, generator=generator(key))
        assert (found.images.dtype, found.images.shape) == (dtype, x.shape)
        assert torch.equal(scheme.replay(x, found.draw), found.images)
    assert torch.equal(x, before)


def test_truncating_darkens_and_rounding_does_not():
    space = PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    grey = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, -1, -1)
    x = space.from_uint8(grey, torch.float32)
    off = {"sub": torch.tensor([0]), "act": torch.zeros(1, 2, dtype=torch.bool)}
    nothing = Draw("autoaugment", {**off, "negative": off["act"]})
    rounded, truncated = (
        space.to_uint8(AutoAugment("autoaugment", space=space, quantise=q).replay(x, nothing)).int()
        - grey.int()
        for q in ("round", "truncate")
    )
    assert (rounded == 0).all()
    assert set(truncated.unique().tolist()) == {-1, 0}


def test_what_it_says_of_itself():
    scheme = AutoAugment("autoaugment", "sample", policy="imagenet", quantise="truncate")
    assert (scheme.policy, scheme.quantise) == ("imagenet", "truncate")
    said = scheme.rules()
    assert set(said) == {"probability", "draw", "fill", "space"}
    assert "25 sub-policies of imagenet" in said["draw"]
    assert "per image" in said["draw"]
    assert "per batch" in AutoAugment("autoaugment").rules()["draw"]
    assert said["space"] == "uint8, truncated as published"
    assert AutoAugment("autoaugment").rules()["space"] == "uint8, rounded"


def test_unknown_names():
    with pytest.raises(UsageError, match="policy.*imagenet"):
        AutoAugment("autoaugment", policy="imagenett")
    with pytest.raises(UsageError, match="uint8.*truncate"):
        AutoAugment("autoaugment", quantise="trunc")
