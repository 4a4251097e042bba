"""Every scheme of a probe stops on its own, and is measured as it would be alone."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from kdstats.errors import UsageError
from kdstats.estimators.tstddev import from_pools
from kdstats.teacher.evaluate import evaluate_da
from kdstats.teacher.evaluation import Evaluation
from kdstats.teacher.protocols import Status


@pytest.fixture(scope="module")
def together() -> Evaluation:
    return evaluate_da(["cutmix", "mixup", "same", "recursive_mix"], tol=0.03)


def half(row: dict) -> float:
    return (math.log(row["high"]) - math.log(row["low"])) / 2


def test_each_scheme_stops_when_its_own_interval_is_narrow_enough(together):
    rows = {row["scheme"]: row for row in together.to_dict()["results"]}
    pools = {name: row["pools"] for name, row in rows.items()}
    assert pools["cutmix"] < pools["mixup"]
    for row in rows.values():
        if row["stopped"] == "tol":
            assert half(row) <= 0.03
        else:
            assert row["stopped"] == "pools"
            assert row["pools"] == 40
    assert rows["cutmix"]["stopped"] == "tol"
    assert rows["recursive_mix"]["stopped"] == "pools"
    assert together.to_dict()["shared"]["batches"] == 5 * max(pools.values())
    sizes = {name: len(means) for name, means in together.batch_means.items()}
    assert sizes["cutmix"] == rows["cutmix"]["inputs"] // 128
    assert sizes["identity"] == sizes["original"] == max(sizes.values())


def test_a_scheme_measures_the_same_alone_and_in_company(together):
    rows = {row["scheme"]: row for row in together.to_dict()["results"]}
    for name in ("cutmix", "mixup", "recursive_mix"):
        alone = evaluate_da(name, tol=0.03).to_dict()["results"][0]
        for key in (
            "t_stddev",
            "low",
            "high",
            "pools",
            "inputs",
            "design_effect",
            "teacher_entropy",
            "covariance",
        ):
            assert alone[key] == rows[name][key], (name, key)


def test_comparisons_use_the_batches_that_the_scheme_has(together):
    alone = evaluate_da("cutmix", tol=0.03)
    against = {c.a: c for c in together.comparisons}
    assert against["cutmix"] == alone.comparisons[0]
    assert set(against) == {"cutmix", "mixup", "same", "recursive_mix"}
    assert against["same"].relative > 1


def test_batches_that_hang_together_are_measured_in_pools(together):
    """recursive_mix pastes the batch before, so the variance of a pool does not follow from that of a batch."""
    n = len(together.batch_means["recursive_mix"])
    pooled = 0.5 * (together.batch_means["original"][:n] + together.batch_means["recursive_mix"])
    pools = pooled.reshape(n // 5, 5, -1).mean(1)  # 20 batches an epoch: no pool straddles
    row = next(r for r in together.results if r.scheme == "recursive_mix")
    assert row.t_stddev.n == n // 5
    assert row.t_stddev.method.startswith("pool-level variance")
    assert any("depend on each other" in note for note in row.t_stddev.notes)
    epoch = np.array(together.epoch[:n]).reshape(-1, 5)[:, 0]
    centred = np.concatenate([pools[epoch == e] - pools[epoch == e].mean(0) for e in np.unique(epoch)])
    variance = (centred**2).sum(0) / (len(pools) - len(np.unique(epoch)))
    assert row.components.total == pytest.approx(variance.mean(), rel=1e-9)
    # The value lies near the root of it, less the finite-population correction and moved by the control.
    assert 0.8 < row.t_stddev.value / np.sqrt(variance).mean() < 1.05


def test_too_few_pools_in_an_epoch_are_refused_before_anything_is_measured():
    with pytest.raises(UsageError, match="1280 images hold 1 of them; choose a smaller --batch-size"):
        evaluate_da("recursive_mix", batch_size=256)


def test_the_history_is_reset_at_every_epoch():
    from kdstats import data, schemes
    from kdstats.data.standard import StandardAugmentation
    from kdstats.teacher.load import load_network
    from kdstats.teacher.probe import Probe

    train = data.load("digits").head(256)
    space = schemes.PixelSpace(train.mean, train.std)
    scheme = schemes.get("recursive_mix", space=space)
    network = load_network(None, None, train, torch.device("cpu"))
    made = Probe(train, {"recursive_mix": scheme}, network, None, StandardAugmentation("none"), 64, seed=0)
    batches = made.batches(drop_last=True)
    for _ in range(9):
        made.step(*next(batches))
    tally = made.tallies["recursive_mix"]
    first = [np.allclose(o, v, atol=1e-6) for o, v in zip(made.means, tally.means, strict=True)]
    # In between a box may be empty (1 in 8 at 8x8 pixels), at the start of an epoch there is nothing to paste.
    assert first[0]
    assert first[4]
    assert first[8]
    assert sum(first) < 6


def test_progress_counts_up_to_the_scheme_that_needs_most():
    seen: list[Status] = []
    evaluate_da(["cutmix", "same"], tol=0.05, progress=seen.append)
    assert [s.done for s in seen] == list(range(1, seen[-1].done + 1))
    assert seen[-1].done == seen[-1].target
    assert all(s.target >= s.done for s in seen)


def test_picking_another_number_than_the_batch_holds():
    found = evaluate_da("cutmix_pick_teacher(n_pick=20)", tol=0.1)
    row = found.results[0]
    assert "(64+20)" in row.t_stddev.definition
    assert any("20 views to a batch of 64" in note for note in row.t_stddev.notes)
    batches = len(found.batch_means["cutmix_pick_teacher(n_pick=20)"])
    assert row.inputs == batches * (64 + 20)
    assert found.view_sizes["cutmix_pick_teacher(n_pick=20)"] == [20] * batches


def test_the_published_protocol_weights_by_inputs():
    """``n_pick`` = 64 from a last batch of 40 gives 64 views beside 40 originals: rows, not batches, are averaged."""
    from kdstats.teacher import evaluation

    found = evaluate_da("cutmix_pick_teacher@wang2022", protocol="wang2022", pools=6, batch_size=60)
    name = "cutmix_pick_teacher@wang2022"
    sizes = found.view_sizes[name]
    assert set(sizes) == {
        64,
        40,
    }  # 1,280 images: 21 batches of 60 and one of 20, whose pool of 40 is kept whole
    o, v = found.batch_means["original"], found.batch_means[name]
    n = np.array(found.view_sizes["original"])[:, None]
    m = np.array(sizes)[:, None]
    rows, counts = (o * n + v * m).reshape(6, 5, -1).sum(1), (n + m).reshape(6, 5, 1).sum(1)
    assert found.results[0].t_stddev.value == pytest.approx(from_pools(rows / counts).value, rel=1e-9)
    assert evaluation.SCHEMA == "kdstats/evaluate-da/1"


def test_unequal_numbers_are_weighted_by_inputs_in_both_protocols():
    """Every input of a pool has the same weight, whatever share of them are views."""
    name = "cutmix_pick_teacher(n_pick=16)"
    found = evaluate_da(name, tol=0.02)
    o, v = found.batch_means["original"], found.batch_means[name]
    share = 64 / 80
    means = share * o[: len(v)] + (1 - share) * v
    epoch = np.array(found.epoch[: len(v)])
    centred = np.concatenate([means[epoch == e] - means[epoch == e].mean(0) for e in np.unique(epoch)])
    variance = (centred**2).sum(0) / (len(v) - len(np.unique(epoch)))
    assert found.results[0].components.total == pytest.approx(variance.mean() / 5, rel=1e-9)
    published = evaluate_da(name, protocol="wang2022").results[0].t_stddev
    assert published.low < found.results[0].t_stddev.value < published.high


def test_the_pass_over_all_originals_is_made_where_it_saves_more_than_it_costs():
    """Four times the digits, 5,120 images, more than are passed as a matter of course; and a teacher soft enough that
    single images differ in how sure it is of them."""
    from dataclasses import replace

    from kdstats import data
    from kdstats.teacher.evaluate import measure
    from kdstats.teacher.load import load_network
    from kdstats.teacher.network import Network

    digits = data.load("digits")
    large = replace(
        digits,
        images=digits.images.repeat(4, 1, 1, 1),
        labels=digits.labels.repeat(4),
        sample_id=torch.arange(4 * len(digits)),
    )
    inner = load_network(None, None, digits, torch.device("cpu")).model

    class Soft(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 0.3 * inner(x)

    network = Network(Soft(), "soft", "resnet8", "", "soft")
    test = data.load("digits", "test")

    def measured(tol: float) -> tuple[int, bool, float]:
        """Batches, whether the pass was made, and the half-width."""
        found = measure(["cutout"], large, test, network, None, tol=tol)
        row, batches = found.results[0].t_stddev, len(found.epoch)
        made = "all originals" in row.method
        assert found.originals_forwards - 64 * batches == 4096 + 2048 + made * (5120 + 2048)
        assert found.stopped["cutout"] == "tol"
        return batches, made, math.log(row.high / row.low) / 2

    batches, made, width = measured(0.2)
    assert (batches, made) == (80, False)
    # A few batches more cost less than the pass that would save them.
    batches, made, _ = measured(0.95 * width)
    assert 80 < batches < 110
    assert not made
    batches, made, _ = measured(0.004)
    assert batches > 80
    assert made
