"""Analyses that ask the teacher about views: mixed labels that it contradicts, and what picking keeps."""

from __future__ import annotations

import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special, stats
from settings_study import write_study

from analyses import label_disagreement, picked_views
from analyses.label_disagreement import disagreement, slope_over_batches
from analyses.picked_views import by_chance, whole_pool
from analyses.study import Study, load_study
from analyses.study.views import sources
from kdstats import models
from kdstats.errors import CheckError, UsageError
from kdstats.provenance import sha256_file
from kdstats.records.paths import RunPaths
from kdstats.schemes.combined import picking
from kdstats.teacher.load import shipped_path

BATCHES = 8


def study_of(root: Path, names: tuple[str, ...], weights: bool = False, **changes: object) -> Study:
    """Runs of the shipped teacher; ``weights`` puts the teacher itself into the students' place."""
    path = shipped_path()

    def after(run: RunPaths, scheme: str, seed: int) -> None:
        if weights:
            model = models.build("resnet8", 10, 8, 1)
            model.load_state_dict(models.read_state_dict(path))
            models.save_weights(model, run.last, {"arch": "resnet8", "dataset": "digits"})

    write_study(
        root,
        loss=lambda s, k: 0.5 + 0.01 * k,
        schemes=names,
        seeds=(0, 1),
        pair="resnet8/resnet8",
        teachers={"resnet8": {"path": str(path), "sha256": sha256_file(path), "arch": "resnet8"}},
        after=after,
        changes=changes,
    )
    return load_study(root, seed=0)


# --- mixed labels against the teacher ---


def test_disagreement_by_hand() -> None:
    p = np.array([[0.7, 0.2, 0.1], [0.3, 0.3, 0.4], [0.6, 0.3, 0.1], [0.2, 0.5, 0.3]])
    lam = np.array([0.5, 0.75, 1.0, 0.25])
    first, second = np.array([0, 0, 0, 2]), np.array([1, 1, 0, 2])
    q = np.array([[0.5, 0.5, 0], [0.75, 0.25, 0], [1, 0, 0], [0, 0, 1]])
    found = disagreement(np.log(p), lam, first, second)
    assert found["total_variation"] == pytest.approx(
        [np.abs(a - b).sum() / 2 for a, b in zip(p, q, strict=True)]
    )
    assert found["kl"] == pytest.approx(special.rel_entr(q, p).sum(axis=1))
    assert found["neither"].tolist() == [0, 1, 0, 1]
    assert found["not_larger"].tolist() == [0, 1, 0, 1]
    turned = disagreement(np.log(p[:1]), np.array([0.4]), first[:1], second[:1])
    assert (turned["neither"], turned["not_larger"]) == ([0.0], [1.0])
    with pytest.raises(CheckError, match="λ lies outside"):
        disagreement(np.log(p), lam + 0.5, first, second)


def test_slope_is_that_of_least_squares_and_its_interval_covers() -> None:
    rng = np.random.default_rng(0)

    def batches(slope: float) -> list[tuple[np.ndarray, np.ndarray]]:
        out = []
        for _ in range(20):  # one λ a batch, as with draws per batch, and an effect that its views share
            lam = np.full(16, rng.beta(1, 1))
            out.append((lam, 0.1 + slope * lam + rng.normal(0, 0.05) + rng.normal(0, 0.1, 16)))
        return out

    parts = batches(1.4)
    x, y = (np.concatenate(side) for side in zip(*parts, strict=True))
    value, low, high = slope_over_batches(parts)
    assert value == pytest.approx(stats.linregress(x, y).slope)
    left = [slope_over_batches(parts[:k] + parts[k + 1 :])[0] for k in range(20)]
    se = math.sqrt(19 / 20 * np.square(np.array(left) - np.mean(left)).sum())
    assert high - value == pytest.approx(stats.t.ppf(0.975, 19) * se)
    covered = 0
    for _ in range(300):
        _, low, high = slope_over_batches(batches(1.0))
        covered += low <= 1 <= high
    assert covered / 300 > 0.91
    assert math.isnan(slope_over_batches([(np.full(4, 0.5), np.ones(4))] * 6)[0])
    assert all(map(math.isnan, slope_over_batches([])))


def test_labels_that_the_teacher_contradicts_are_found(tmp_path: Path) -> None:
    # At α = 10⁻⁴ every λ is 0 or 1 but for rounding: a view is one of the originals, and so is its label.
    study = study_of(tmp_path / "a", ("identity", "cutmix", "mixup(alpha=0.0001)"))
    result = label_disagreement.run(study, BATCHES)
    table = result.table.set_index(["scheme", "measure"])
    assert (table.loc["cutmix", "difference_low"].drop("kl") > 0).all()
    said = " ".join(result.findings)
    assert "resnet8, cutmix: the share of views whose likeliest class is none of those mixed is above" in said
    assert (
        "mixup(alpha=0.0001): the share of views whose likeliest class is none of those mixed cannot be"
        in said
    )
    assert "mixup(alpha=0.0001): the total variation between label and answer cannot be told" in said
    assert "identity" not in set(result.table["scheme"])
    bins = result.calibration[result.calibration["scheme"] == "cutmix"]
    assert ((bins["left"] <= bins["lam"]) & (bins["lam"] <= bins["right"])).all()
    figure, facts = result.figure()  # type: ignore[misc]
    assert len(figure.axes) == 1
    assert f"{BATCHES} batches of training images" in facts.caption()


def test_what_cannot_be_asked_is_said(tmp_path: Path) -> None:
    several = study_of(tmp_path / "a", ("recursive_mix", "mixup+cutmix"))
    result = label_disagreement.run(several, BATCHES)
    assert "mixed in several steps" in result.findings[0]
    assert len(result.findings) == 2
    assert result.figure() is None
    none = study_of(tmp_path / "b", ("flip",))
    assert "no run mixes images under a fixed teacher" in label_disagreement.run(none, BATCHES).findings[0]
    assert "no run picks its views" in picked_views.run(none, BATCHES).findings[0]
    moving = study_of(tmp_path / "c", ("cutmix", "cutmix_pick_teacher"), teaching={"teachers": 1})
    for analysis in (label_disagreement, picked_views):
        assert "follows its student is gone" in analysis.run(moving, BATCHES).findings[0]  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match="5 or more"):
            analysis.run(none, 4)  # type: ignore[attr-defined]
    gone = study_of(tmp_path / "d", ("cutmix_pick_student",))
    assert "no weights at" in picked_views.run(gone, BATCHES).findings[0]


# --- what picking picks ---


def test_a_whole_pool_ends_with_the_views_that_are_picked(tmp_path: Path) -> None:
    missing: list[str] = []
    study = study_of(tmp_path, ("cutmix_pick_teacher",))
    (source,) = sources(study, lambda name, scheme: True, 3, missing)
    assert not missing
    everything = source.with_scheme(whole_pool(source.scheme, source.batch_size))  # type: ignore[arg-type]
    for pool, kept in zip(everything.batches(5), source.batches(5), strict=True):
        n = len(kept.lam)
        assert len(pool.lam) == 2 * n
        assert torch.equal(pool.view.images[-n:], kept.view.images)
        assert pool.answers[-n:] == pytest.approx(kept.answers)
        assert (pool.view.partner_id[-n:] == kept.view.partner_id).all()
        entropy = special.entr(np.exp(pool.answers)).sum(axis=1)
        assert entropy[-n:].min() >= entropy[:n].max() - 1e-5


def test_picked_views_are_unlike_their_pool(tmp_path: Path) -> None:
    study = study_of(tmp_path, ("cutmix", "cutmix_pick_teacher", "cutmix_pick_student"), weights=True)
    result = picked_views.run(study, BATCHES)
    said = " ".join(result.findings)
    assert "the views picked have teacher's entropy higher by" in said
    assert "resnet8/resnet8, cutmix_pick_student: the student that picks is the trained one of seed 0" in said
    assert set(result.table["batches"]) == {BATCHES}  # two seeds have one teacher, which is asked once
    table = result.table.set_index(["scheme", "measure"])
    row = table.loc[("cutmix_pick_teacher", "entropy")]
    assert row["difference"] == pytest.approx(row["picked"] - row["pool"])
    assert row["standardised"] == pytest.approx(row["difference"] / row["pool_sd"])
    # The student is the teacher itself, so both pick the same views.
    same = table.loc["cutmix_pick_student"]
    assert same["picked"].to_numpy() == pytest.approx(table.loc["cutmix_pick_teacher", "picked"].to_numpy())
    figure, facts = result.figure()  # type: ignore[misc]
    assert figure.axes[0].get_xlabel().startswith("picked less pool")
    assert "cutmix_pick_teacher (resnet8)" in facts.caption()


def test_blind_picking_is_not_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def blind(pool: torch.Tensor, *_: object) -> tuple[torch.Tensor, None]:
        return torch.rand(len(pool), generator=generator), None

    generator = torch.Generator().manual_seed(4)
    monkeypatch.setitem(picking.CRITERIA, "dissimilarity", (blind, frozenset()))
    result = picked_views.run(study_of(tmp_path, ("cutmix_pick_dissimilarity",)), BATCHES)
    assert "cannot be told from their pool by teacher's entropy" in result.findings[0]
    assert "have" not in " ".join(result.findings)
    assert "as many as blind picking would leave" in result.findings[1]


def test_chance_by_enumeration() -> None:
    images = [0, 1, 2, 0, 1, 2]
    shares = [len({images[i] for i in kept}) / 3 for kept in combinations(range(6), 3)]
    assert by_chance(3, 2, 3) == pytest.approx(np.mean(shares))
    assert by_chance(4, 2, 8) == by_chance(4, 2, 7) == 1
