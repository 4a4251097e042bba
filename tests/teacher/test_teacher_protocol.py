"""``evaluate_da`` against a second computation written from the definitions, image by image, class by class."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch

from kdstats import data, models, schemes
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order, view_generator
from kdstats.estimators.layout import PoolLayout
from kdstats.schemes import PixelSpace
from kdstats.teacher.evaluate import evaluate_da
from kdstats.teacher.load import shipped_path

POOLS = 6


def teacher() -> torch.nn.Module:
    net = models.build("resnet8", 10, 8, 1)
    models.load_weights(net, shipped_path())
    return net.eval()


def softmax(logits: torch.Tensor) -> np.ndarray:
    z = logits.double().numpy()
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def within(rows: np.ndarray, epoch: list[int]) -> np.ndarray:
    """Covariance matrix within epochs, pooled: disjoint batches of one epoch vary as independent draws do."""
    labels = np.array(epoch)
    groups = [rows[labels == e] for e in sorted(set(epoch))]
    scatter = sum((g - g.mean(0)).T @ (g - g.mean(0)) for g in groups)
    return scatter / sum(len(g) - 1 for g in groups)


class Naive:
    """The published protocol on the digits, with nothing shared between schemes and nothing streamed."""

    def __init__(self, scheme: str, draws: str, batch_size: int, seed: int, pools: int) -> None:
        train, net = data.load("digits"), teacher()
        base = StandardAugmentation("crop1")
        made = schemes.get(scheme, draws=draws, space=PixelSpace(train.mean, train.std))

        @torch.no_grad()
        def logits(x: torch.Tensor) -> torch.Tensor:
            return net(x)

        rows, self.o, self.v, self.ids, self.labels, self.other, self.lam = [], [], [], [], [], [], []
        epoch = 0
        while len(rows) < 5 * pools:
            order = epoch_order(seed, epoch, 1280)
            rows += [
                (epoch, step, order[s : s + batch_size]) for step, s in enumerate(range(0, 1280, batch_size))
            ]
            epoch += 1
        rows = rows[: 5 * pools]
        self.epoch = [epoch for epoch, _, _ in rows]
        for epoch, step, at in rows:
            pixels = base.apply(train.images[at], train.sample_id[at], seed, epoch)
            x = (pixels.float() / 255 - train.mean[0]) / train.std[0]
            gen = view_generator(seed, draws, epoch, step)
            view = made.apply(x, train.labels[at], train.sample_id[at], generator=gen, teacher=logits)
            self.o.append(softmax(logits(x)))
            self.v.append(softmax(logits(view.images)))
            self.ids.append(view.index.numpy())
            self.labels.append(view.labels.numpy())
            self.other.append(view.partner_labels.numpy())
            self.lam.append(view.lam.numpy())

    def pool_means(self) -> np.ndarray:
        out = []
        for k in range(0, len(self.o), 5):
            members = [row for b in range(k, k + 5) for p in (self.o[b], self.v[b]) for row in p]
            out.append(np.mean(members, axis=0))
        return np.array(out)

    def t_stddev(self) -> float:
        means = self.pool_means()
        total = 0.0
        for c in range(10):
            column = means[:, c]
            total += math.sqrt(sum((x - column.mean()) ** 2 for x in column) / (len(column) - 1))
        return total / 10


@pytest.mark.parametrize("draws", ["batch", "sample"])
@pytest.mark.parametrize(
    "scheme", ["identity", "crop", "autoaugment", "mixup", "cutmix", "cutmix_pick_teacher"]
)
def test_published_protocol(scheme, draws):
    found = evaluate_da(scheme, protocol="wang2022", pools=POOLS, draws=draws, seed=3)
    naive = Naive(scheme, draws, 64, 3, POOLS)
    result = found.results[0]
    assert result.scheme == scheme
    assert result.t_stddev.value == pytest.approx(naive.t_stddev(), abs=1e-6)
    assert (result.t_stddev.n, result.pools, result.inputs) == (POOLS, POOLS, POOLS * 640)
    o, v = np.concatenate(naive.o), np.concatenate(naive.v)
    entropy = [-(p * np.log(np.maximum(p, 1e-300))).sum(1).mean() for p in (o, v)]
    assert result.teacher_entropy == pytest.approx(np.mean(entropy), abs=1e-6)
    assert result.view_entropy == pytest.approx(entropy[1], abs=1e-6)
    base = np.concatenate([p[i] for p, i in zip(naive.o, naive.ids, strict=True)])
    assert result.kl_view_original == pytest.approx((base * np.log(base / v)).sum(1).mean(), abs=1e-5)
    top, lam = v.argmax(1), np.concatenate(naive.lam)
    hit = lam * (top == np.concatenate(naive.labels)) + (1 - lam) * (top == np.concatenate(naive.other))
    assert result.view_accuracy == pytest.approx(hit.mean(), abs=2e-3)
    # Originals are those of the pool; a view is linked to its own base, which picking may repeat or leave out.
    o = np.concatenate(naive.o)
    link = ((base - o.mean(0)) * (v - v.mean(0))).sum() / (len(v) - 1) / 10
    linked = np.array([[o.var(0, ddof=1).mean(), link], [link, v.var(0, ddof=1).mean()]]) / (2 * 640)
    parts = result.components
    assert (parts.var_original, parts.var_augmented) == pytest.approx((linked[0, 0], linked[1, 1]), abs=1e-9)
    assert parts.cov_views == pytest.approx(2 * linked[0, 1], abs=1e-9)
    total = parts.var_original + parts.var_augmented + parts.cov_views + parts.cov_cross
    assert total == pytest.approx(parts.total, rel=1e-12)
    means = 0.5 * (np.array([p.mean(0) for p in naive.o]) + np.array([p.mean(0) for p in naive.v]))
    assert parts.total == pytest.approx(np.diag(within(means, naive.epoch)).mean() / 5, rel=1e-4)
    # The cross-entropy's covariance, the teacher standing in for the student: from the full matrix.
    u = np.array(
        [
            np.r_[-(a * np.log(a)).sum(1), -(b * np.log(b)).sum(1)]
            for a, b in zip(naive.o, naive.v, strict=True)
        ]
    )
    c = within(u, naive.epoch)
    assert result.covariance.risk_variance.value == pytest.approx(c.mean(), rel=1e-3, abs=1e-9)
    assert result.covariance.mean_covariance.value == pytest.approx(
        (c.sum() - np.trace(c)) / (128 * 127), rel=2e-3, abs=1e-8
    )


def test_pools_straddle_epochs_and_short_batches_count():
    # 1,280 = 13 · 98 + 6: 14 batches an epoch, so pools of five straddle epochs and hold the short ones.
    found = evaluate_da("mixup", protocol="wang2022", batch_size=98, seed=1)
    naive = Naive("mixup", "batch", 98, 1, 28)
    assert found.results[0].t_stddev.n == 28 == PoolLayout.of(1280, 98, 5, 10).pools
    assert found.results[0].t_stddev.value == pytest.approx(naive.t_stddev(), abs=1e-6)
    assert set(found.stopped.values()) == {"epochs"}
    assert sorted(set(found.view_sizes["original"])) == [6, 98]


def test_covariance_with_a_student_of_its_own():
    from kdstats.models import save_weights

    torch.manual_seed(0)
    student = models.build("lenet8", 10, 8, 1)
    import tempfile
    from pathlib import Path

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "student.safetensors"
        save_weights(student, path)
        found = evaluate_da(
            ["cutmix_pick_student", "flip"],
            protocol="wang2022",
            pools=5,
            student=path,
            student_arch="lenet8",
            seed=2,
        )
    naive = Naive("flip", "batch", 64, 2, 5)
    train, base = data.load("digits"), StandardAugmentation("crop1")
    student.eval()
    u = []
    for j, (o, v) in enumerate(zip(naive.o, naive.v, strict=True)):
        epoch, step = divmod(j, 20)
        at = epoch_order(2, epoch, 1280)[step * 64 : (step + 1) * 64]
        x = (
            base.apply(train.images[at], train.sample_id[at], 2, epoch).float() / 255 - train.mean[0]
        ) / train.std[0]
        view = schemes.get("flip").apply(x, generator=view_generator(2, "batch", epoch, step))
        with torch.no_grad():
            logs = [torch.log_softmax(student(y), 1).double().numpy() for y in (x, view.images)]
        u.append(np.r_[-(o * logs[0]).sum(1), -(v * logs[1]).sum(1)])
    flip = next(r for r in found.results if r.scheme == "flip")
    assert flip.covariance.risk_variance.value == pytest.approx(
        within(np.array(u), naive.epoch).mean(), rel=1e-3
    )
    assert found.to_dict()["results"][0]["covariance"]["source"] == "student"


def test_a_seed_gives_the_same_numbers_and_another_seed_others():
    def numbers(seed: int) -> dict:
        out = copy.deepcopy(evaluate_da(["cutmix", "cutmix_pick_teacher"], pools=12, seed=seed).to_dict())
        del out["provenance"]
        for row in out["results"]:
            del row["seconds"]
        return out

    a, b, c = numbers(5), numbers(5), numbers(6)
    assert a == b
    assert a["results"][0]["t_stddev"] != c["results"][0]["t_stddev"]
    for row in c["results"]:
        assert row["low"] < row["t_stddev"] < row["high"]


def test_the_company_of_other_schemes_changes_nothing():
    alone = evaluate_da("cutmix", protocol="wang2022", pools=5)
    together = evaluate_da(["mixup", "cutmix_pick_teacher", "cutmix", "flip"], protocol="wang2022", pools=5)
    one = next(r for r in together.results if r.scheme == "cutmix")
    assert one.t_stddev == alone.results[0].t_stddev
    assert one.components == alone.results[0].components


@pytest.mark.parametrize("draws", ["batch", "sample"])
def test_efficient_agrees_with_the_published_protocol(draws):
    """All 40 pools of ten epochs against the batch-level value of the same length: both intervals, and each other's."""
    names = ["identity", "mixup", "cutmix"]
    published = {r.scheme: r for r in evaluate_da(names, protocol="wang2022", draws=draws, seed=1).results}
    found = evaluate_da(names, tol=0.05, draws=draws, seed=2)
    assert set(found.stopped.values()) == {"tol"}
    for r in found.results:
        a, b = r.t_stddev, published[r.scheme].t_stddev
        assert a.low < b.high
        assert b.low < a.high
        assert (a.high - a.low) / (2 * a.value) <= 0.0502
        assert a.definition == b.definition
    assert {c.a for c in found.comparisons} == {"mixup", "cutmix"}
    assert sum(found.lowest.values()) == pytest.approx(1.0)


def test_stops_when_the_pools_are_spent():
    found = evaluate_da("cutmix", tol=0.001, pools=9)
    assert found.stopped == {"cutmix": "pools", "identity": "tol"}
    assert len(found.epoch) == 45
    assert found.results[0].pools == 9
