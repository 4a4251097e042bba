"""CutMix: the laws of its boxes and, preset by preset, the codes it reproduces."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from kdstats import schemes
from kdstats.draws.keys import generator, uniforms
from kdstats.errors import UsageError

MANY = 40_000


def areas(name: str, size: int, draws: str = "sample") -> np.ndarray:
    """Replaced share of each of MANY images; the images themselves are never touched."""
    hollow = torch.zeros(1, 1, size, size).expand(MANY, 1, size, size)
    draw = schemes.get(name, draws=draws)._draw(hollow, torch.arange(MANY), generator(0, name, size))
    return 1 - draw.params["lam"].double().numpy()


@pytest.mark.parametrize(
    ("size", "mean", "sd", "empty"),
    [(32, 0.299, 0.183, 0.0037), (64, 0.310, 0.186, 0.0010), (224, 0.318, 0.188, 0.0001)],
)
def test_area(size, mean, sd, empty):
    found = areas("cutmix", size)
    assert found.mean() == pytest.approx(mean, abs=4 * found.std() / math.sqrt(MANY) + 0.0005)
    assert found.std() == pytest.approx(sd, abs=4 * sd / math.sqrt(2 * MANY) + 0.0005)
    assert (found == 0).mean() == pytest.approx(empty, abs=4 * math.sqrt(empty / MANY) + 0.00005)


def test_quantiles_at_32():
    found = np.quantile(areas("cutmix", 32), [0.1, 0.5, 0.9])
    assert found == pytest.approx([0.0625, 0.281, 0.559], abs=0.008)


def test_batch_draws_have_the_same_law():
    scheme, x = schemes.get("cutmix"), torch.zeros(2, 1, 32, 32)
    gen = generator(1)
    found = np.array([1 - float(scheme._draw(x, torch.arange(2), gen).params["lam"]) for _ in range(4000)])
    assert found.mean() == pytest.approx(0.299, abs=4 * 0.183 / math.sqrt(4000))
    assert found.std() == pytest.approx(0.183, abs=4 * 0.183 / math.sqrt(2 * 4000))


def test_alpha_reaches_the_boxes():
    narrow = areas("cutmix(alpha=4)", 64)
    wide = areas("cutmix(alpha=0.2)", 64)
    assert narrow.std() < 0.15 < 0.25 < wide.std()


@pytest.mark.parametrize("name", ["cutmix", "cutmix@clovaai(p=1)"])
def test_the_published_rand_bbox_number_by_number(name):
    """``rand_bbox`` of the released codes: the box is a function of (λ, centre), λ is recomputed from it."""
    scheme = schemes.get(name)
    scheme = getattr(scheme, "base", scheme)
    for key in range(100):
        u = uniforms("batch", torch.arange(4), 4, generator(key)).numpy()[0]
        draw = scheme._draw(torch.zeros(4, 1, 32, 32), torch.arange(4), generator(key)).params
        cut = int(32 * np.sqrt(1 - u[0]))
        cy, cx = int(u[1] * 32), int(u[2] * 32)
        top, bottom = np.clip(cy - cut // 2, 0, 32), np.clip(cy + cut // 2, 0, 32)
        left, right = np.clip(cx - cut // 2, 0, 32), np.clip(cx + cut // 2, 0, 32)
        assert draw["box"][0].tolist() == [top, bottom, left, right]
        assert float(draw["lam"]) == pytest.approx(1 - (bottom - top) * (right - left) / 1024)


def test_clovaai_acts_on_half_of_the_batches_and_lets_images_meet_themselves():
    scheme, x = schemes.get("cutmix@clovaai"), torch.zeros(6, 1, 32, 32)
    drawn = [scheme._draw(x, torch.arange(6), generator(k)) for k in range(2000)]
    acted = np.mean([bool(d.params["acts"]) for d in drawn])
    assert acted == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(2000))
    own = np.mean([float((d.parts[0].params["partner"] == torch.arange(6)).sum()) for d in drawn])
    assert own == pytest.approx(1, abs=4 / math.sqrt(2000))


def dictated(transform: v2.Transform, params: dict, x: torch.Tensor) -> torch.Tensor:
    labels = torch.arange(len(x))
    return transform.transform(x, {**params, "labels": labels, "batch_size": len(x)})


@pytest.mark.parametrize("size", [8, 32, 33])
def test_torchvision_cutmix_given_the_same_draws(size, monkeypatch):
    x = torch.randn(5, 3, size, size, generator=torch.Generator().manual_seed(1))
    theirs = v2.CutMix(num_classes=5)
    for key in range(60):
        u = uniforms("batch", torch.arange(5), 4, generator(key))[0]
        found = schemes.get("cutmix@torchvision").apply(x, generator=generator(key))
        with monkeypatch.context() as patch:
            corners = iter([int(u[2] * size), int(u[1] * size)])  # torchvision asks for x, then y
            patch.setattr(torch, "randint", lambda *a, **k: torch.tensor([next(corners)]))  # noqa: B023
            patch.setattr(theirs, "_dist", type("Dist", (), {"sample": lambda self, shape: u[:1].float()})())  # noqa: B023
            params = theirs.make_params([x])
        expected = dictated(theirs, params, x)
        top, bottom, left, right = found.draw.params["box"][0].tolist()
        assert params["box"] == (left, top, right, bottom)
        assert torch.equal(found.images, expected)
        assert found.lam[0].item() == pytest.approx(params["lam_adjusted"], abs=1e-6)


def test_torchvision_mixup_given_the_same_lambda():
    x = torch.randn(5, 3, 8, 8)
    found = schemes.get("mixup@torchvision").apply(x, generator=generator(3))
    expected = dictated(v2.MixUp(num_classes=5), {"lam": found.lam[0].item()}, x)
    assert torch.allclose(found.images, expected, atol=1e-6)


def test_timm_pairs_with_the_reversed_batch():
    x = torch.arange(5.0).view(5, 1, 1, 1).expand(5, 1, 16, 16).contiguous()
    for name in ("cutmix@timm", "mixup@timm"):
        found = schemes.get(name).apply(x, generator=generator(1))
        mixed = found.lam < 1
        assert found.partner_index[mixed].tolist() == torch.arange(5).flip(0)[mixed].tolist()
        assert torch.allclose(found.images.mean((1, 2, 3)), found.mix(torch.arange(5.0)), atol=1e-5)


def test_dual_teacher_shares_the_size_and_not_the_place():
    scheme = schemes.get("cutmix@dualteacher")
    x, centres = torch.zeros(64, 1, 32, 32), []
    for key in range(100):
        box = scheme._draw(x, torch.arange(64), generator(key)).params["box"]
        whole = box[(box[:, 0] > 0) & (box[:, 1] < 32) & (box[:, 2] > 0) & (box[:, 3] < 32)]
        assert (
            len((whole[:, 1] - whole[:, 0]).unique()) <= 1
        )  # one size per batch wherever nothing is clipped
        assert len(box.unique(dim=0)) > 10
        centres += ((whole[:, 0] + whole[:, 1]) / 2).tolist()
    assert min(centres) >= 4  # no centre in the first eighth
    assert max(centres) > 24  # and all the rest of the image is reached
    lam = schemes.get("cutmix@dualteacher")
    assert (lam.alpha, lam.partner, lam.centres) == (4.0, "permutation", "image")


def test_what_is_refused():
    for params, said in (
        ({"box": "clip"}, "box rule.*clipped"),
        ({"centres": "images"}, "choice of centres"),
        ({"centre_from": 1.0}, "centre_from is a share"),
        ({"centre_from": 0.1, "box": "inside"}, "not box=inside"),
        ({"centres": "image", "draws": "sample"}, "use draws per batch"),
        ({"alpha": 0}, "alpha"),
        ({"partner": "roll", "draws": "sample"}, "pairs by position"),
    ):
        with pytest.raises(UsageError, match=said):
            schemes.get("cutmix", **params)
