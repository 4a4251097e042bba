"""Sections of the analyses on request: one form for unlike results, and an honest no."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pandas as pd
import pytest
from settings_study import write_study
from synthetic_study import make_study

import analyses
from analyses.study import Study, load_study
from kdstats.errors import UsageError
from reports import any_table
from reports.build import build
from reports.offers import offers
from reports.page import Page
from reports.sections import ask, of_result

Whole = tuple[Page, Path]


@pytest.fixture(scope="module")
def picked(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study in which picking by the teacher lowers the loss by 0.1 nats."""
    level = {"identity": 1.0, "cutmix": 0.9, "cutmix_pick_teacher": 0.8}
    root = write_study(
        tmp_path_factory.mktemp("picked") / "study",
        loss=lambda scheme, seed: level[scheme] + 0.01 * seed + 0.001 * ((3 * seed + len(scheme)) % 4),
        schemes=level,
    )
    return load_study(root, seed=0)


def test_a_comparison_of_levels_has_table_figure_and_words(picked: Study) -> None:
    section = ask(picked, "picking")
    assert section.refused == ""
    assert section.question == analyses.get("picking").QUESTION
    assert "teacher's entropy has the lowest mean test loss" in section.findings[0]
    table = next(view for view in section.tables if view.name == "picking")
    assert [row[0] for row in table.printed()] == list(table.frame["level"])
    assert table.part().rows[list(table.frame["lowest"]).index(True)].style == "best"
    assert "n = 3 seeds each" in table.caption
    (drawing,) = section.drawings
    assert "2 values" in drawing.caption
    assert list(drawing.data["level"]) == list(table.frame["level"])


def test_the_caption_and_the_labels_agree_with_what_is_plotted(picked: Study) -> None:
    (drawing,) = ask(picked, "picking").drawings
    axes = drawing.figure.axes[0]
    plotted = [(float(x), float(y)) for x, y in axes.lines[0].get_xydata()]
    assert [y for _, y in plotted] == pytest.approx(list(drawing.data["test_loss"]))
    (said,) = drawing.labels.values()
    assert [text.split("\n")[0] for text in said] == list(drawing.data["level"])
    inside = unquote(drawing.part().files[0].uri.partition(",")[2])
    rows = list(csv.DictReader(io.StringIO(inside)))
    assert [float(row["test_loss"]) for row in rows] == list(drawing.data["test_loss"])


GOLDEN = ["teacher's entropy", "resnet8/lenet8", "3", "0.812 [0.790, 0.834]"]


def test_the_printed_table(picked: Study) -> None:
    table = ask(picked, "picking").tables[0]
    row = next(row for row in table.printed() if row[0] == GOLDEN[0])
    assert row[:4] == GOLDEN


def test_one_changed_number_changes_the_printed_table(tmp_path: Path) -> None:
    """The mutation beside the golden."""
    level = {"identity": 1.0, "cutmix": 0.9, "cutmix_pick_teacher": 0.802}
    root = write_study(
        tmp_path / "study",
        loss=lambda scheme, seed: level[scheme] + 0.01 * seed + 0.001 * ((3 * seed + len(scheme)) % 4),
        schemes=level,
    )
    table = ask(load_study(root, seed=0), "picking").tables[0]
    row = next(row for row in table.printed() if row[0] == GOLDEN[0])
    assert row[:3] == GOLDEN[:3]
    assert row[3] != GOLDEN[3]


def test_results_within_results_are_sections_of_their_own(picked: Study) -> None:
    section = ask(picked, "recursive_sweeps")
    assert section.tables == ()
    assert "no run used recursive_mix" in section.refused
    assert section.refused.count("no run used recursive_mix.") == 1  # said once, not once for every setting


# These ask networks, so they load torch before they can say that there are none; their own tests see to that.
NETWORKS = [
    "smoothness",
    "calibration",
    "robustness",
    "feature_projection",
    "picked_views",
    "label_disagreement",
    "convergence",
]


@pytest.mark.parametrize("name", [name for name in analyses.ON_REQUEST if name not in NETWORKS])
def test_every_analysis_answers_or_says_why_not(picked: Study, name: str) -> None:
    section = ask(picked, name)
    assert section.question.endswith("?")
    assert bool(section.refused) != bool(section.tables or section.drawings)
    assert "Traceback" not in section.refused
    columns = {
        column for frame in (*(v.frame for v in section.tables), *section.data.values()) for column in frame
    }
    heads = getattr(analyses.get(name), "HEADS", {})
    assert not section.tables or set(heads) <= columns, "a head of no column"
    names = [view.name for view in section.tables] + list(section.data)
    assert len(names) == len(set(names))
    for drawing in section.drawings:
        assert drawing.caption.endswith(".")
        assert not drawing.data.empty


def test_a_fit_is_no_empty_promise(picked: Study) -> None:
    """What is offered as fitting is answered; what the study plainly lacks is not offered, and says what it is."""
    by = {offer.name: offer for offer in offers(picked)}
    assert set(by) == set(analyses.ON_REQUEST)
    assert by["picking"].fits
    assert by["best_and_last"].fits
    assert not by["view_targets"].fits
    assert by["view_targets"].why_not == "all runs have one target of the views"
    for name, offer in by.items():
        if offer.fits:
            assert ask(picked, name).refused == "", name


def test_two_studies_answer_what_one_cannot(tmp_path: Path, picked: Study) -> None:
    roots = [
        write_study(
            tmp_path / f"e{epochs}",
            loss=lambda scheme, seed, e=epochs: 1 / e + 0.001 * seed,
            changes={"recipe.epochs": epochs},
        )
        for epochs in (10, 20)
    ]
    one, two = (load_study(root, seed=0) for root in roots)
    assert ask(one, "epoch_sweep").refused
    both = ask(one, "epoch_sweep", two)
    assert both.refused == ""
    assert both.drawings


def test_every_question_on_request_says_what_it_needs() -> None:
    for name in analyses.ON_REQUEST:
        assert isinstance(analyses.get(name).NEEDS, tuple), name


@dataclass(frozen=True)
class Odd:
    table: pd.DataFrame
    findings: tuple[str, ...]


def test_columns_are_printed_by_what_they_mean() -> None:
    frame = pd.DataFrame(
        {
            "pair": ["a/b", "a/b"],
            "scheme": ["identity", "cut_<b>&mix"],
            "ratio": [1.0, 1.234567],
            "ratio_low": [float("nan"), 1.1],
            "ratio_high": [float("nan"), 1.4],
            "loss": [0.5, 0.25],
            "loss_sd": [0.01, float("nan")],
            "p": [0.2, 0.0001],
            "sure": [False, True],
            "n": [12345, 7],
        }
    )
    view = any_table.view("odd", frame, "")
    heads = [column.header for column in view.columns]
    assert heads == ["scheme", "ratio [95\u00a0%]", "loss ± sd", "p", "sure", "n"]
    assert view.printed() == [
        ["identity", "1.000", "0.5000 ± 0.010", "0.20", "", "12,345"],
        ["cut_<b>&mix", "1.23 [1.10, 1.40]", "0.2500", "< 0.001", "yes", "7"],
    ]
    assert view.caption == "Ratio, loss, p and n by scheme (2 rows). Brackets: 95\u00a0% intervals."
    assert r"cut\_$<$b$>$\&mix" in view.write("latex")


def test_what_says_nothing_is_not_printed() -> None:
    frame = pd.DataFrame(
        {"scheme": ["a", "b"], "r": [0.5, 0.25], "confidence": 0.95, "notes": ["", ""], "remark": ["", "x"]}
    )
    heads = [column.header for column in any_table.view("odd", frame, "").columns]
    assert heads == ["scheme", "r", "remark"]
    # Where it is a number of the images and no level, it is one.
    frame["confidence"] = [0.95, 0.9]
    assert "confidence" in [column.header for column in any_table.view("odd", frame, "").columns]


def test_long_frames_are_data() -> None:
    frame = pd.DataFrame({"scheme": [f"s{k}" for k in range(61)], "x": range(61)})
    section = of_result("odd", "What?", Odd(frame, ("Found.",)), ())
    assert section.tables == ()
    assert list(section.data) == ["odd"]


def test_asked_sections_stand_on_the_page(whole: Whole) -> None:
    page, path = whole
    text = path.read_text(encoding="utf-8")
    assert [section.name for section in page.sections] == ["best_and_last", "overhead", "picking"]
    assert 'id="ask-best_and_last"' in text
    assert "its settings are unknown" in text  # picking is refused: the runs of this study have no cards
    assert (path.parent / "tables" / "best_and_last.tex").is_file()
    assert "best_and_last" not in {offer.name for offer in page.offers}


def test_unknown_and_fixed_questions_are_usage_errors(tmp_path: Path) -> None:
    root = make_study(tmp_path / "s", curves=False, schemes=("identity", "flip"))
    with pytest.raises(UsageError, match=r"Did you mean 'overhead'"):
        build(root, ask=["overhed"])
    with pytest.raises(UsageError, match="on every page"):
        build(root, ask=["ranking"])


def test_no_run_yet_offers_nothing(built: Callable[..., Whole]) -> None:
    page, path = built(schemes=("identity",), seeds=(0,), excluded=(("identity", 0),), documents=False)
    assert {offer.fits for offer in page.offers} == {False}
    text = path.read_text(encoding="utf-8")
    assert "No further question fits what this study kept." in text
    assert "No run of this study is in the numbers yet." in text


def test_an_analysis_may_say_what_its_columns_mean() -> None:
    frame = pd.DataFrame({"scheme": ["identity"], "seconds": [12.5], "entropy": [1.5]})
    (table,) = of_result("odd", "What?", Odd(frame, ()), (), {"seconds": "seconds an epoch"}).tables
    assert [column.header for column in table.columns] == ["scheme", "seconds an epoch", "entropy (nats)"]


def test_one_name_with_two_meanings_has_two_heads(whole: Whole) -> None:
    """Seconds are those of an epoch in one analysis and of all training in another."""
    study = whole[0].study
    heads = {
        name: [column.header for table in ask(study, name).tables for column in table.columns]
        for name in ("overhead", "which_scheme")
    }
    assert "seconds an epoch (median)" in heads["overhead"]
    assert "seconds that choosing took" in heads["which_scheme"]
