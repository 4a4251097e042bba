"""RecursiveMix against a plain reading of the released algorithm, step by step."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from kdstats import schemes
from kdstats.draws.keys import generator, uniforms
from kdstats.errors import UsageError
from kdstats.schemes import AugmentedBatch, Targets

N = 5


def images(step: int, n: int = N, size: int = 32) -> Tensor:
    return torch.randn(n, 3, size, size, generator=torch.Generator().manual_seed(100 + step))


def run(scheme: schemes.Scheme, steps: range, n: int = N, size: int = 32) -> list[AugmentedBatch]:
    return [
        scheme.apply(
            images(t, n, size), (torch.arange(n) + t) % 4, torch.arange(n) + 10 * t, generator=generator(1, t)
        )
        for t in steps
    ]


@pytest.mark.parametrize("resize", ["nearest", "bilinear"])
def test_step_by_step_as_released(resize):
    scheme, history, fused = schemes.get("recursive_mix", resize=resize), None, None
    for t in range(12):
        x, y = images(t), F.one_hot((torch.arange(N) + t) % 4, 4).float()
        found = scheme.apply(
            x, (torch.arange(N) + t) % 4, torch.arange(N) + 10 * t, generator=generator(1, t)
        )
        u = uniforms("batch", torch.arange(N), 3, generator(1, t)).numpy()[0]
        if history is not None:
            r = math.sqrt(0.5 * u[0])
            cut, cy, cx = int(32 * r), int(u[1] * 32), int(u[2] * 32)
            top, bottom = np.clip(cy - cut // 2, 0, 32), np.clip(cy + cut // 2, 0, 32)
            left, right = np.clip(cx - cut // 2, 0, 32), np.clip(cx + cut // 2, 0, 32)
            x = x.clone()
            if bottom > top and right > left:
                how = (
                    {"mode": "nearest"}
                    if resize == "nearest"
                    else {"mode": "bilinear", "align_corners": True}
                )
                x[:, :, top:bottom, left:right] = F.interpolate(history, (bottom - top, right - left), **how)
            lam = 1 - (bottom - top) * (right - left) / 1024
            y = lam * y + (1 - lam) * fused
            assert found.lam.tolist() == pytest.approx([lam] * N)
        assert torch.allclose(found.images, x, atol=1e-5)
        assert torch.allclose(found.mix(F.one_hot((torch.arange(N) + t) % 4, 4), fused), y, atol=1e-6)
        history, fused = found.images, y


@pytest.mark.parametrize(("size", "mean"), [(32, 0.166), (224, 0.182)])
def test_mean_pasted_area(size, mean):
    many = 40_000
    scheme = schemes.get("recursive_mix", draws="sample")
    scheme._before = {
        "images": torch.zeros(1, 1, size, size)
    }  # one row of history is enough for boxes to be drawn
    hollow = torch.zeros(1, 1, size, size).expand(many, 1, size, size)
    area = 1 - scheme._draw(hollow, torch.arange(many), generator(3, size)).params["lam"].double().numpy()
    assert area.mean() == pytest.approx(mean, abs=4 * area.std() / math.sqrt(many) + 0.0005)
    if size == 32:
        assert area.std() == pytest.approx(0.107, abs=0.0005 + 4 * 0.107 / math.sqrt(2 * many))
        assert (area == 0).mean() == pytest.approx(0.008, abs=0.0005 + 4 * math.sqrt(0.008 / many))


def test_share_of_the_box_is_uniform():
    scheme = schemes.get("recursive_mix(alpha=1)", draws="sample")
    scheme._before = {"images": torch.zeros(1, 1, 224, 224)}
    hollow = torch.zeros(1, 1, 224, 224).expand(20_000, 1, 224, 224)
    box = scheme._draw(hollow, torch.arange(20_000), generator(4)).params["box"].numpy()
    middle = box[(box[:, 0] > 0) & (box[:, 1] < 224) & (box[:, 2] > 0) & (box[:, 3] < 224)]
    side = (middle[:, 1] - middle[:, 0]) / 224
    small = side[side < 0.25]  # boxes this small are whole for three centres in four, whatever their size
    weight = (1 - small) ** 2  # probability of lying inside
    share = np.histogram(small**2, bins=4, range=(0, 0.0625), weights=1 / weight)[0]
    assert share / share.sum() == pytest.approx(np.full(4, 0.25), abs=0.05)


def test_per_image_boxes_give_what_one_image_alone_gives():
    scheme = schemes.get("recursive_mix", draws="sample")
    first, second = run(scheme, range(2))
    assert len(second.lam.unique()) > 2
    for i in range(N):
        top, bottom, left, right = second.draw.params["box"][i].tolist()
        expected = images(1)[i : i + 1].clone()
        if bottom > top and right > left:
            expected[:, :, top:bottom, left:right] = F.interpolate(
                first.images[i : i + 1], (bottom - top, right - left)
            )
        assert torch.equal(second.images[i : i + 1], expected)


@pytest.mark.parametrize("size", [7, 32, 33, 64, 224])
def test_nearest_is_pytorchs_for_every_size_of_box(size):
    from kdstats.schemes.mixing.recursive import _nearest

    x = torch.randn(1, 1, size, size)
    for h in range(1, size + 1):
        box = torch.tensor([[0, h, 0, size]])
        assert torch.equal(_nearest(x, box)[:, :, :h], F.interpolate(x, (h, size))), h


def test_ids_and_labels_of_the_history():
    scheme = schemes.get("recursive_mix")
    first, second = run(scheme, range(2))
    assert not first.recursive
    assert (first.lam == 1).all()
    assert torch.equal(first.images, images(0))
    assert second.recursive
    assert (second.lam < 1).all()
    assert torch.equal(second.partner_id, torch.arange(N))
    assert torch.equal(second.sample_id, torch.arange(N) + 10)
    assert torch.equal(second.partner_labels, torch.arange(N) % 4)
    assert torch.equal(second.labels, (torch.arange(N) + 1) % 4)


def test_the_history_ends_with_the_epoch():
    scheme = schemes.get("recursive_mix")
    run(scheme, range(3))
    scheme.reset()
    assert scheme.state_dict() == {}
    assert torch.equal(run(scheme, range(3, 4))[0].images, images(3))


def test_a_checkpoint_carries_the_history(tmp_path):
    whole = run(schemes.get("recursive_mix"), range(4))
    before = schemes.get("recursive_mix")
    run(before, range(2))
    torch.save(before.state_dict(), tmp_path / "state.pt")
    after = schemes.get("recursive_mix")
    after.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    for a, b in zip(run(after, range(2, 4)), whole[2:], strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.partner_id, b.partner_id)
    for wrong in ({"nonsense": torch.ones(1)}, {"images": torch.ones(1)}):
        with pytest.raises(UsageError, match="no history of it"):
            after.load_state_dict(wrong)
    with pytest.raises(UsageError, match="cutmix has no history"):
        schemes.get("cutmix").load_state_dict(before.state_dict())


def test_batches_of_other_sizes():
    scheme = schemes.get("recursive_mix")
    run(scheme, range(1))
    small = run(scheme, range(1, 2), n=3)[0]  # the last batch of an epoch uses the first rows
    assert torch.equal(small.partner_id, torch.arange(3))
    large = run(scheme, range(2, 3), n=N)[0]  # images without a counterpart stay unmixed
    assert (large.lam[:3] < 1).all()
    assert (large.lam[3:] == 1).all()
    assert torch.equal(large.images[3:], images(2)[3:])
    assert torch.equal(large.partner_id[3:], large.sample_id[3:])
    with pytest.raises(UsageError, match="call reset"):
        run(scheme, range(3, 4), size=16)


def test_labels_come_always_or_never():
    scheme = schemes.get("recursive_mix")
    scheme.apply(images(0), generator=generator(0))
    scheme.apply(images(1), generator=generator(1))
    with pytest.raises(UsageError, match="not with both"):
        scheme.apply(images(2), torch.zeros(N, dtype=torch.int64), generator=generator(2))


def test_targets_fuse_as_the_labels_do():
    scheme, targets = schemes.get("recursive_mix"), Targets("labels")
    fused = None
    for t in range(5):
        y = (torch.arange(N) + t) % 4
        found = scheme.apply(images(t), y, generator=generator(1, t))
        got = targets.labels(found, y, 4)
        fused = found.mix(F.one_hot(y, 4), fused)
        assert torch.equal(got, fused)
        assert torch.allclose(got.sum(1), torch.ones(N))
    assert ((got > 0).sum(1) > 2).any()  # more than two images are in a view by now
    with pytest.raises(UsageError, match="mixed from the batch before"):
        found.mix(F.one_hot(y, 4))


def test_what_is_refused():
    for params, said in (
        ({"alpha": 0}, r"\(0, 1\]"),
        ({"alpha": 1.1}, r"\(0, 1\]"),
        ({"resize": "cubic"}, "way to resize"),
    ):
        with pytest.raises(UsageError, match=said):
            schemes.get("recursive_mix", **params)
    with pytest.raises(UsageError, match="several compete"):
        schemes.get("pick(recursive_mix)")
    with pytest.raises(UsageError, match="cannot be a part"):
        schemes.get("flip+recursive_mix")
