"""How fast T. stddev settles: costs, agreement of protocols and order of schemes, planted and not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from settings_study import write_study

from analyses import convergence
from analyses.convergence.numbers import ALL, cost_of, order_of, ratios, told_apart
from analyses.convergence.words import on_order, on_rank, on_ratio
from analyses.figures.convergence import draw_convergence
from analyses.study import Study, load_study
from kdstats.errors import UsageError
from kdstats.provenance import sha256_file
from kdstats.teacher.load import shipped_path

LOOKS = (10, 20, 50, 100)


def study_of(root: Path, names: tuple[str, ...], **changes: object) -> Study:
    path = shipped_path()
    write_study(
        root,
        loss=lambda s, k: 0.5,
        schemes=names,
        seeds=(0,),
        pair="resnet8/lenet8",
        teachers={"resnet8": {"path": str(path), "sha256": sha256_file(path), "arch": "resnet8"}},
        changes=changes,
    )
    return load_study(root, seed=0)


def probes(
    levels: dict[str, float], *, noise: float, repeats: int = 4, test: float = 1.0, rng: int = 0
) -> pd.DataFrame:
    """Curves that settle as 1/√batches around each scheme's level; the published one four times as wide."""
    draw, rows = np.random.default_rng(rng), []
    for split, factor in (("train", 1.0), ("test", test)):
        for protocol, wide in (("wang2022", 4.0), ("efficient", 1.0)):
            for repeat in range(repeats):
                for scheme, level in levels.items():
                    for batches in LOOKS:
                        half = 2 * noise * wide / np.sqrt(batches)
                        value = level * factor * np.exp(draw.normal(0, half / 2))
                        rows.append(
                            {"teacher": "t", "split": split, "protocol": protocol, "repeat": repeat}
                            | {"scheme": scheme, "batches": batches, "value": value, "half_width": half}
                            | {"low": value * np.exp(-half), "high": value * np.exp(half)}
                        )
    return pd.DataFrame(rows)


def ends(curves: pd.DataFrame) -> pd.DataFrame:
    table = curves[curves["batches"] == LOOKS[-1]].copy()
    more = (table["half_width"] / 0.01) ** 2
    table["batches_needed"] = table["batches"] * more
    return table.assign(passes_needed=128 * table["batches_needed"], seconds_needed=more)


APART = {"identity": 4.0, "flip": 3.0, "cutmix": 2.0}
ALIKE = {"identity": 3.0, "flip": 3.0, "cutmix": 3.0}


def test_cost_by_hand() -> None:
    table = ends(probes(APART, noise=0.1))
    cost = cost_of(table).set_index(["split", "protocol"])
    # Half-width 0.02 after 100 batches: 400 batches of 128 passes for each of 3 schemes.
    assert cost.loc[("train", "efficient"), "passes_needed"] == pytest.approx(3 * 400 * 128)
    assert cost.loc[("train", "wang2022"), "passes_needed"] == pytest.approx(16 * 3 * 400 * 128)
    assert cost.loc[("train", "efficient"), "gain"] == pytest.approx(16)
    assert np.isnan(cost.loc[("train", "wang2022"), "gain"])


def test_an_order_that_stands_is_found() -> None:
    curves = probes(APART, noise=0.25)
    table = ends(curves)
    told = told_apart(table)
    train = told[(told["split"] == "train") & (told["protocol"] == "efficient")]
    assert sorted(zip(train["a"], train["b"], train["ratio"] > 1, strict=True)) == [
        ("flip", "cutmix", True),
        ("identity", "cutmix", True),
        ("identity", "flip", True),
    ]
    order = order_of(curves, table, told).set_index(["split", "protocol", "batches"])
    wide = curves[
        (curves["split"] == "train") & (curves["protocol"] == "wang2022") & (curves["batches"] == 10)
    ]
    values = wide.pivot_table(index="repeat", columns="scheme", values="value")
    pairs = told[(told["split"] == "train") & (told["protocol"] == "wang2022")]
    by_hand = min(
        np.mean(
            [
                (row[a] > row[b]) == (r > 1)
                for a, b, r in zip(pairs["a"], pairs["b"], pairs["ratio"], strict=True)
            ]
        )
        for _, row in values.iterrows()
    )
    assert order.loc[("train", "wang2022", 10), "in_order"] == pytest.approx(by_hand)
    assert order.loc[("train", "efficient", 100), "in_order"] == 1
    assert order.loc[("train", "efficient", 100), "tau"] == 1
    said = list(on_order(order.reset_index(), told, table))
    assert "efficient: 4 repeats of 100 batches tell 3 of 3 pairs of schemes apart; from the" in said[1]
    turned = told.copy()
    turned.loc[(turned["split"] == "test") & (turned["a"] == "identity"), "ratio"] = 0.5
    assert "2 stand the other way round" in list(on_rank(table, turned))[1]
    figure, facts = draw_convergence(curves, order.reset_index())
    assert [len(ax.lines) for ax in figure.axes] == [4, 4]
    assert "3 schemes and 4 repeats of up to 100 batches" in facts.caption()


def test_no_order_and_no_difference_are_claimed_where_there_is_none() -> None:
    curves = probes(ALIKE, noise=0.1)
    table = ends(curves)
    told = told_apart(table)
    assert told.empty
    order = order_of(curves, table, told)
    assert order["in_order"].isna().all()
    said = list(on_order(order, told, table))
    assert all("none of 3 pairs of schemes apart, so this cannot say" in text for text in said)
    assert not list(on_rank(table, told))
    for over, a, b in (("protocol", "efficient", "wang2022"), ("split", "test", "train")):
        found = ratios(table, over, a, b)
        sentences = list(
            on_ratio(found, "on one", "on the other", "split" if over == "protocol" else "protocol")
        )
        assert len(sentences) == 2
        assert all("which cannot be told from 1" in text for text in sentences)
        assert not any("by themselves" in text for text in sentences)
    assert "No two schemes are told apart" in draw_convergence(curves, order)[1].caption()


@pytest.mark.simulation
def test_differences_are_claimed_in_5_per_cent_at_most() -> None:
    times = 25
    tables = [ends(probes(ALIKE, noise=0.1, rng=rng)) for rng in range(times)]
    claimed = sum(len(told_apart(table)) > 0 for table in tables)
    assert claimed <= stats.binom.ppf(0.999, times, 0.05)
    found = [ratios(table, "protocol", "efficient", "wang2022") for table in tables]
    apart = sum(((f["low"] > 1) | (f["high"] < 1))[f["scheme"] != ALL].any() for f in found)
    assert apart <= stats.binom.ppf(0.999, times, 0.05)


def test_test_images_that_differ_are_found() -> None:
    table = ends(probes(APART, noise=0.02, test=0.8))
    found = ratios(table, "split", "test", "train").set_index(["protocol", "scheme"])
    row = found.loc[("efficient", ALL)]
    assert row["ratio"] == pytest.approx(0.8, rel=0.02)
    assert row["high"] < 1
    sentence = list(on_ratio(found.reset_index(), "on test images", "on training images", "protocol"))[1]
    assert "cannot be told" not in sentence
    assert "flip at 0.798 [" in sentence


def test_a_real_teacher_is_probed(tmp_path: Path) -> None:
    """Views that are all the same image are the worst case, which few batches show."""
    study = study_of(tmp_path / "a", ("identity", "same", "cutmix_pick_student"))
    result = convergence.run(study, pools=10, splits=("train",))
    assert set(result.table["scheme"]) == {"identity", "same"}
    assert len(result.table) == 2 * 3 * 2
    row = result.table.set_index(["protocol", "repeat", "scheme"]).loc[("wang2022", 0, "same")]
    assert row["passes"] == 2 * 64 * row["batches"]
    assert row["half_width"] == pytest.approx(np.log(row["high"] / row["low"]) / 2)
    assert row["batches_needed"] == pytest.approx(row["batches"] * (row["half_width"] / 0.01) ** 2)
    said = " ".join(result.findings)
    assert (
        "efficient: 3 repeats of 50 batches tell 1 of 1 pair of schemes apart; from the first look on" in said
    )
    assert "pools, which depend on each other" in said  # four pools an epoch of the digits
    assert result.splits.empty
    assert result.figure() is not None


def test_what_cannot_be_probed_is_said(tmp_path: Path) -> None:
    study = study_of(tmp_path / "a", ("flip",), teaching={"teachers": 1})
    assert "no run has a fixed teacher" in convergence.run(study).findings[0]
    gone = study_of(tmp_path / "b", ("flip",))
    gone.card.teachers["resnet8"]["path"] = str(tmp_path / "gone.safetensors")  # type: ignore[index]
    answer = convergence.run(gone)
    assert "Not probed: resnet8: no teacher at" in answer.findings[0]
    assert answer.figure() is None
    for wrong in ({"pools": 4}, {"repeats": 2}, {"tolerance": 1.5}, {"splits": ("val",)}):
        with pytest.raises(UsageError, match="10 or more pools"):
            convergence.run(gone, **wrong)  # type: ignore[arg-type]
