"""What every scheme of the registry promises, checked over granularity, channels, sizes, dtypes and batch sizes."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

from kdstats import schemes
from kdstats.errors import UsageError
from kdstats.schemes import AugmentedBatch, PixelSpace, Scheme
from kdstats.schemes.keys import generator

DRAWS = ("batch", "sample")
MIXING = ("mixup", "cutmix", *(n for n in schemes.names() if n.startswith("cutmix_pick")))
SHAPES = [(1, 8, 5), (3, 8, 7), (1, 32, 2), (3, 32, 6), (3, 64, 3)]


def network(seed: int) -> Any:
    """A small fixed classifier for any number of pixels; float32 logits whatever comes in."""

    def logits(x: Tensor) -> Tensor:
        flat = x.float().flatten(1)
        weight = torch.randn(flat.shape[1], 6, generator=torch.Generator().manual_seed(seed))
        return flat @ weight / flat.shape[1] ** 0.5

    return logits


TEACHER, STUDENT = network(1), network(2)


def make(name: str, draws: str, channels: int = 3) -> Scheme:
    return schemes.get(name, draws=draws, space=PixelSpace((0.5,) * channels, (0.25,) * channels))


def batch(channels: int, size: int, n: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 256, (n, channels, size, size), generator=g)
    return ((pixels / 255.0 - 0.5) / 0.25).to(dtype)


def run(
    scheme: Scheme, x: Tensor, key: int = 0, ids: Tensor | None = None, labels: Tensor | None = None
) -> AugmentedBatch:
    return scheme.apply(x, labels, ids, generator=generator(7, key), teacher=TEACHER, student=STUDENT)


@pytest.mark.parametrize(
    ("channels", "size", "n", "dtype"),
    [
        (1, 8, 5, torch.float32),
        (3, 8, 7, torch.bfloat16),
        (1, 32, 2, torch.bfloat16),
        (3, 32, 6, torch.float32),
        (3, 64, 3, torch.float32),
        (1, 64, 3, torch.bfloat16),
    ],
)
@pytest.mark.parametrize(("name", "draws"), list(itertools.product(schemes.names(), DRAWS)))
def test_contract(name, draws, channels, size, n, dtype):
    scheme = make(name, draws, channels)
    x = batch(channels, size, n, dtype)
    before = x.clone()
    ids, labels = torch.arange(n) * 13 + 5, torch.arange(n) % 3
    for key in range(2):
        found = run(scheme, x, key, ids, labels)
        assert torch.equal(x, before), "the input was written to"
        assert (found.images.shape, found.images.dtype, found.images.device) == (x.shape, dtype, x.device)
        assert found.images.data_ptr() != x.data_ptr()
        assert torch.isfinite(found.images).all()
        assert torch.equal(found.sample_id, ids[found.index])
        assert torch.equal(found.partner_id, ids[found.partner_index])
        assert torch.equal(found.labels, labels[found.index])
        assert torch.equal(found.partner_labels, labels[found.partner_index])
        assert found.lam.dtype == torch.float32
        assert ((found.lam >= 0) & (found.lam <= 1)).all()
        for column in (found.sample_id, found.partner_id, found.lam, found.index, found.partner_index):
            assert column.shape == (n,)
        if name not in MIXING:
            assert torch.equal(found.index, torch.arange(n))
            assert torch.equal(found.partner_id, found.sample_id)
            assert (found.lam == 1).all()
        assert torch.equal(scheme.replay(x, found.draw), found.images), "the replay differs"
        again = run(make(name, draws, channels), x, key, ids, labels)
        assert torch.equal(again.images, found.images), "the same key gave other views"


@pytest.mark.parametrize(("name", "draws"), list(itertools.product(schemes.names(), DRAWS)))
def test_another_key_gives_other_views(name, draws):
    scheme, x = make(name, draws), batch(3, 32, 6)
    views = [run(scheme, x, key).images for key in range(8)]
    different = sum(not torch.equal(views[0], v) for v in views[1:])
    assert different == 0 if name == "identity" else different >= 1


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("name", "draws"), list(itertools.product(schemes.names(), DRAWS)))
def test_batch_of_one_works_or_says_so(name, draws):
    scheme, x = make(name, draws), batch(3, 32, 1)
    if scheme.least > 1:
        with pytest.raises(UsageError, match="at least 2 images, not 1"):
            run(scheme, x)
    else:
        assert run(scheme, x).images.shape == x.shape


@pytest.mark.parametrize("name", ["flip", "crop", "crop_flip", "cutout", "autoaugment", "identity"])
def test_sample_draws_depend_on_the_id_alone(name):
    scheme, x = make(name, "sample"), batch(3, 32, 12)
    ids = torch.arange(12) + 100
    whole = run(scheme, x, ids=ids).images
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    assert torch.equal(run(scheme, x[order], ids=ids[order]).images, whole[order])
    for rows in (slice(0, 5), slice(5, 6), slice(6, 12)):
        assert torch.equal(run(scheme, x[rows], ids=ids[rows]).images, whole[rows])
    # Not a matter of one draw for all: the views of one image under several ids differ.
    if name != "identity":
        same = run(scheme, x[:1].expand(12, -1, -1, -1), ids=ids).images
        assert any(not torch.equal(same[0], v) for v in same[1:])


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_sample_draws_of_mixing(name):
    scheme, x = make(name, "sample"), batch(3, 32, 12)
    ids = torch.arange(12) + 100
    whole = run(scheme, x, ids=ids)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(3))
    turned = run(scheme, x[order], ids=ids[order])
    assert torch.equal(turned.images, whole.images[order])
    assert torch.equal(turned.partner_id, whole.partner_id[order])
    # In another batch the partner must be another image, but λ (and the box) stay.
    part = run(scheme, x[:5], ids=ids[:5])
    assert torch.equal(part.lam, whole.lam[:5])
    assert len(whole.lam.unique()) > 6
    assert (whole.partner_id != whole.sample_id).all()


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_batch_draws_share_one_lambda(name):
    found = run(make(name, "batch"), batch(3, 32, 12))
    assert len(found.lam.unique()) == 1
    assert sorted(found.partner_index.tolist()) == list(range(12))


@pytest.mark.parametrize(("name", "draws"), list(itertools.product(("cutmix", "cutmix_pick_teacher"), DRAWS)))
@pytest.mark.parametrize(("channels", "size", "n"), SHAPES)
def test_cutmix_lambda_is_the_share_of_pixels_kept(name, draws, channels, size, n):
    scheme = make(name, draws, channels)
    # Image i is constant i: every pixel of a view tells whose it is.
    x = torch.arange(n, dtype=torch.float32).view(n, 1, 1, 1).expand(n, channels, size, size).contiguous()
    for key in range(20):
        found = run(scheme, x, key)
        own = (found.images == found.index.view(-1, 1, 1, 1)).float().mean((1, 2, 3))
        other = (found.images == found.partner_index.view(-1, 1, 1, 1)).float().mean((1, 2, 3))
        assert torch.allclose(own + other, torch.ones(n), atol=1e-6)
        assert torch.allclose(found.lam, own, atol=1e-6)


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixup_lambda_solves_the_view(draws, dtype):
    scheme, x = make("mixup", draws), batch(3, 32, 9, dtype)
    tolerance = 1e-5 if dtype == torch.float32 else 0.02
    for key in range(10):
        found = run(scheme, x, key)
        base, partner = x[found.index].double(), x[found.partner_index].double()
        gap = (base - partner).flatten(1)
        moved = (found.images.double() - partner).flatten(1)
        other = gap.abs().sum(1) > 0
        lam = (moved * gap).sum(1)[other] / (gap * gap).sum(1)[other]
        assert torch.allclose(lam.float(), found.lam[other], atol=tolerance)
        assert torch.allclose(moved[other], lam[:, None] * gap[other], atol=tolerance * 4)


def test_mixed_targets():
    scheme, x = make("cutmix", "sample"), batch(3, 32, 6)
    found = run(scheme, x, labels=torch.arange(6))
    onehot = torch.nn.functional.one_hot(torch.arange(6))
    mixed = found.mix(onehot)  # int64, as one_hot gives it
    assert torch.allclose(mixed, found.mix(onehot.double()).float())
    assert torch.allclose(mixed.sum(1), torch.ones(6))
    for i in range(6):
        expected = torch.zeros(6)
        expected[found.labels[i]] += found.lam[i]
        expected[found.partner_labels[i]] += 1 - found.lam[i]
        assert torch.allclose(mixed[i], expected)
    assert 0 < float(found.lam.min()) < 1
    grid = torch.rand(6, 2, 3, dtype=torch.float64)
    assert found.mix(grid).dtype == torch.float64
    lam = found.lam[2].double()
    assert torch.allclose(found.mix(grid)[2], lam * grid[2] + (1 - lam) * grid[found.partner_index[2]])


def test_mixed_values_follow_the_pixels():
    # For a quantity that is linear in the image (here: the mean pixel under constant images), mix() is exact.
    x = torch.arange(8, dtype=torch.float32).view(8, 1, 1, 1).expand(8, 3, 32, 32).contiguous()
    for name in ("mixup", "cutmix", "cutmix_pick_teacher"):
        for draws in DRAWS:
            found = run(make(name, draws), x, 3)
            assert torch.allclose(found.images.mean((1, 2, 3)), found.mix(x.mean((1, 2, 3))), atol=1e-4)


def test_what_is_refused():
    scheme, x = make("cutmix", "batch"), batch(3, 32, 4)
    with pytest.raises(UsageError, match="normalised floats.*uint8"):
        run(scheme, x.to(torch.uint8))
    with pytest.raises(UsageError, match="normalised floats"):
        run(scheme, x[0])
    with pytest.raises(UsageError, match="4 images, but labels of shape"):
        run(scheme, x, labels=torch.arange(3))
    with pytest.raises(UsageError, match="4 images, but sample ids of shape"):
        run(scheme, x, ids=torch.arange(5))
    with pytest.raises(UsageError, match="3 channels, the images 1"):
        run(scheme, batch(1, 32, 4))
    with pytest.raises(UsageError, match="a draw of flip cannot be replayed by cutmix"):
        scheme.replay(x, run(make("flip", "batch"), x).draw)
    for name in schemes.names():
        for role in schemes.record(name).needs:
            have = {"teacher": TEACHER, "student": STUDENT, role: None}
            with pytest.raises(UsageError, match=f"given no {role}"):
                make(name, "batch").apply(x, generator=generator(0), **have)


def test_every_record_names_what_its_scheme_needs():
    for name in schemes.names():
        assert make(name, "batch").needs == schemes.record(name).needs
        assert make(name, "batch").name == name
