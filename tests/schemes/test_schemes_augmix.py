"""AugMix against torchvision's AugMix with its chances dictated, and the laws of its chains and weights."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor
from torchvision.transforms import v2

from kdstats.draws.keys import generator
from kdstats.errors import UsageError
from kdstats.schemes import Draw, PixelSpace
from kdstats.schemes.policy.augmix import AugMix, dirichlet
from kdstats.schemes.policy.operations import OPERATIONS

SPACE = PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
MANY = 30_000


def photos(n: int, size: int) -> Tensor:
    g = torch.Generator().manual_seed(size)
    x = torch.randint(0, 256, (n, 3, size, size), generator=g, dtype=torch.uint8)
    x[::2] //= 4
    return x


def theirs(x: Tensor, made: v2.AugMix, p: dict[str, Tensor], patch: pytest.MonkeyPatch) -> Tensor:
    """torchvision's AugMix on a batch, told the chains and weights of one row of our draw."""
    space = made._AUGMENTATION_SPACE if made.all_ops else made._PARTIAL_AUGMENTATION_SPACE
    whole: list[int] = []
    coins: list[float] = []
    for chain in range(made.mixture_width):
        depth = int(p["depth"][chain])
        whole += [depth] if made.chain_depth <= 0 else []
        for step in range(depth):
            name = OPERATIONS[int(p["operation"][chain, step])]
            magnitudes, signed = space[name]
            whole.append(list(space).index(name))
            if magnitudes(10, 8, 8) is not None:
                whole.append(int(p["level"][chain, step]))
                coins += [0.2 if bool(p["negative"][chain, step]) else 0.8] if signed else []
    weights = [p["share"], p["weight"]]
    with patch.context() as dictated:
        dictated.setattr(torch, "randint", lambda *a, **k: torch.tensor(whole.pop(0)))
        dictated.setattr(torch, "rand", lambda *a, **k: torch.tensor(coins.pop(0)))
        dictated.setattr(made, "_sample_dirichlet", lambda alphas: weights.pop(0).expand_as(alphas))
        out: Tensor = made(x)
    assert not whole
    assert not coins
    assert not weights, "torchvision drew less than foreseen: this oracle no longer fits it"
    return out


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"severity": 10, "mixture_width": 2, "chain_depth": 4, "alpha": 0.4},
        {"all_ops": False, "severity": 7},
    ],
    ids=str,
)
@pytest.mark.parametrize("size", [8, 32, 64])
def test_views_are_torchvisions_pixel_for_pixel(size, params, monkeypatch):
    pixels = photos(12, size)
    x = SPACE.from_uint8(pixels, torch.float32)
    made, seen = v2.AugMix(**params), set()
    for draws in ("batch", "sample"):
        scheme = AugMix("augmix", draws, SPACE, **params)
        for key in range(6 if draws == "batch" else 2):
            found = scheme.apply(x, generator=generator(key))
            views = SPACE.to_uint8(found.images)
            images = [pixels] if draws == "batch" else pixels.split(1)
            mine = [views] if draws == "batch" else views.split(1)
            for row, (image, view) in enumerate(zip(images, mine, strict=True)):
                one = {k: v[row] for k, v in found.draw.params.items()}
                assert torch.equal(view, theirs(image, made, one, monkeypatch))
            seen |= {OPERATIONS[o] for o in found.draw.params["operation"].unique().tolist()}
    left_out = set() if made.all_ops else {"Brightness", "Color", "Contrast", "Sharpness"}
    assert seen == set(v2.AugMix._AUGMENTATION_SPACE) - left_out


def drawn(draws: str = "sample", **params: float) -> dict[str, Tensor]:
    x = torch.zeros(MANY, 1, 1, 1)
    return dict(AugMix("a", draws, **params)._draw(x, torch.arange(MANY), generator(4)).params)


@pytest.mark.parametrize("alpha", [1.0, 0.3, 4.0])
@pytest.mark.parametrize("width", [3, 5])
def test_weights_are_dirichlet(alpha, width):
    p = drawn(alpha=alpha, mixture_width=width)
    weight, share = p["weight"].double(), p["share"].double()
    assert torch.allclose(weight.sum(1), torch.ones(MANY).double(), atol=1e-6)
    assert torch.allclose(share.sum(1), torch.ones(MANY).double(), atol=1e-6)
    # A coordinate of a Dirichlet is Beta(α, (k − 1) α); two of them have this covariance.
    for i in range(width):
        assert stats.kstest(weight[:, i].numpy(), stats.beta(alpha, (width - 1) * alpha).cdf).pvalue > 1e-3
    variance = (width - 1) / (width**2 * (width * alpha + 1))
    expected = torch.full((width, width), -variance / (width - 1)).double().fill_diagonal_(variance)
    products = (weight - 1 / width)[:, :, None] * (weight - 1 / width)[:, None, :]
    assert ((products.mean(0) - expected).abs() < 4.5 * products.std(0) / MANY**0.5).all()
    assert stats.kstest(share[:, 1].numpy(), stats.beta(alpha, alpha).cdf).pvalue > 1e-3
    together = torch.corrcoef(torch.cat([share[:, :1], weight], 1).T)[0, 1:]
    assert together.abs().max() < 4 / MANY**0.5


def test_weights_of_a_tiny_alpha_are_numbers():
    u = torch.rand(200, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    u[0] = 0.0
    found = dirichlet(u, 1e-3)
    assert torch.isfinite(found).all()
    assert torch.allclose(found.sum(1), torch.ones(200).double())
    assert float(found.max(1).values.median()) > 0.99


def test_chains_are_uniform():
    p = drawn(severity=4)
    names = [OPERATIONS[o] for o in p["operation"].unique().tolist()]
    assert set(names) == set(v2.AugMix._AUGMENTATION_SPACE)
    assert p["operation"].shape == (MANY, 3, 3)
    for chain in range(3):
        assert stats.chisquare(torch.bincount(p["depth"][:, chain])[1:].numpy()).pvalue > 1e-3
        assert p["depth"][:, chain].max() == 3
        for step in range(3):
            operation, level = p["operation"][:, chain, step], p["level"][:, chain, step]
            counts = torch.bincount(operation)
            assert stats.chisquare(counts[counts > 0].numpy()).pvalue > 1e-3
            assert stats.chisquare(torch.bincount(level, minlength=4).numpy()).pvalue > 1e-3
            minus = p["negative"][:, chain, step].double().mean()
            assert abs(float(minus) - 0.5) < 4.5 * (0.25 / MANY) ** 0.5
    cells = torch.bincount(p["operation"][:, 0, 0] * 15 + p["operation"][:, 1, 0], minlength=225)
    assert stats.chisquare(cells[cells > 0].numpy()).pvalue > 1e-3
    assert int((cells > 0).sum()) == 13 * 13


def test_everything_is_drawn_apart():
    p = drawn()
    kinds = [p["share"][:, :1], p["weight"][:, :2], p["depth"]]
    kinds += [p[key].flatten(1) for key in ("operation", "level", "negative")]
    kind = torch.cat([torch.full((k.shape[1],), i) for i, k in enumerate(kinds)])
    found = torch.corrcoef(torch.cat([k.double() for k in kinds], 1).T)
    # The weights of one view sum to 1; no other pair has to do with each other.
    own = (kind[:, None] == 1) & (kind[None, :] == 1) | torch.eye(len(kind), dtype=torch.bool)
    assert found[~own].abs().max() < 5 / MANY**0.5


def test_fixed_depth_and_fewer_operations():
    p = drawn(chain_depth=2, all_ops=False, mixture_width=4)
    assert (p["depth"] == 2).all()
    assert p["operation"].shape == (MANY, 4, 2)
    names = {OPERATIONS[o] for o in p["operation"].unique().tolist()}
    assert names == set(v2.AugMix._PARTIAL_AUGMENTATION_SPACE)


def test_batches_share_chains_and_weights():
    p = drawn("batch")
    assert {k: v.shape[0] for k, v in p.items()} == dict.fromkeys(p, 1)
    x = SPACE.from_uint8(photos(1, 32), torch.float32).expand(5, -1, -1, -1)
    views = AugMix("a", "batch", SPACE).apply(x, generator=generator(1)).images
    assert all(torch.equal(v, views[0]) for v in views[1:])


def test_all_weight_on_the_image_gives_the_image():
    x = SPACE.from_uint8(photos(4, 32), torch.float32)
    scheme = AugMix("a", "sample", SPACE)
    p = dict(scheme._draw(x, torch.arange(4), generator(2)).params)
    p["share"] = torch.tensor([[1.0, 0.0]]).expand(4, 2)
    assert torch.equal(SPACE.to_uint8(scheme.replay(x, Draw("a", p))), photos(4, 32))


def test_sample_draws_depend_on_the_id_alone():
    scheme = AugMix("a", "sample", SPACE)
    x, ids = SPACE.from_uint8(photos(16, 32), torch.float32), torch.arange(16) + 100
    whole = scheme.apply(x, None, ids, generator=generator(7)).images
    for rows in (torch.randperm(16, generator=generator(3)), torch.arange(5), torch.tensor([11])):
        assert torch.equal(scheme.apply(x[rows], None, ids[rows], generator=generator(7)).images, whole[rows])
    same = scheme.apply(x[:1].expand(16, -1, -1, -1), None, ids, generator=generator(7)).images
    assert len({v.numpy().tobytes() for v in same}) == 16


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize(("channels", "size", "dtype"), [(1, 8, torch.bfloat16), (3, 8, torch.float32)])
def test_small_grey_and_bfloat16(draws, channels, size, dtype):
    scheme = AugMix("a", draws, PixelSpace((0.5,) * channels, (0.25,) * channels))
    x = torch.randn(6, channels, size, size, generator=torch.Generator().manual_seed(2)).to(dtype)
    before = x.clone()
    for key in range(6):
        found = scheme.apply(x, generator=generator(key))
        assert (found.images.dtype, found.images.shape) == (dtype, x.shape)
        assert torch.equal(scheme.replay(x, found.draw), found.images)
        assert (found.lam == 1).all()
    assert torch.equal(x, before)


def test_what_it_says_of_itself():
    params = {"severity": 5, "mixture_width": 2, "chain_depth": 4, "alpha": 0.5, "all_ops": False}
    scheme = AugMix("a", "sample", **params, quantise="truncate")
    assert {k: getattr(scheme, k) for k in params} == params
    said = scheme.rules()
    assert set(said) == {"draw", "fill", "space"}
    for words in (
        "2 chains of 4 of 9 operations",
        "0…4 of 0…9",
        "Dirichlet(0.5)",
        "Beta(0.5, 0.5)",
        "per image",
    ):
        assert words in said["draw"]
    assert said["space"] == "uint8, truncated as published"
    assert "3 chains of 1…3 of 13 operations" in AugMix("a").rules()["draw"]


@pytest.mark.parametrize(
    ("params", "match"),
    [
        ({"severity": 0}, "severity lies in 1…10, not 0"),
        ({"severity": 11}, "severity lies in 1…10, not 11"),
        ({"mixture_width": 0}, "mixture_width lies in 1…64, not 0"),
        ({"chain_depth": 0}, "chain_depth lies in 1…64, or is -1"),
        ({"chain_depth": -2}, "chain_depth lies in 1…64, or is -1"),
        ({"alpha": 0.0}, "alpha.*at least 0.01, not 0"),
        ({"alpha": float("inf")}, "alpha.*at least 0.01, not inf"),
        ({"quantise": "floor"}, "way through uint8"),
    ],
)
def test_what_is_refused(params, match):
    with pytest.raises(UsageError, match=match):
        AugMix("a", **params)
