"""The loop over panels that all frame functions share, and what their results have in common."""

from __future__ import annotations

import dataclasses
import importlib
import json
import pkgutil

import numpy as np
import pandas as pd
import pytest

import kdstats.association
from kdstats.association.attenuation import Disattenuated, disattenuated
from kdstats.association.columns import each_panel, panels_for
from kdstats.association.correlate import RESULT_COLUMNS, correlate
from kdstats.association.deming import deming
from kdstats.association.loo import leave_one_out
from kdstats.association.partial import partial_correlation
from kdstats.association.rank_table import rank_probabilities
from kdstats.association.result import Result, notes_text
from kdstats.association.simex import simex
from kdstats.errors import CheckError, UsageError


def table(names: tuple[str, ...] = ("b", "a"), column: str = "pair") -> pd.DataFrame:
    rng = np.random.default_rng(4)
    n = 7 * len(names)
    x = rng.standard_normal(n)
    return pd.DataFrame(
        {
            column: np.tile(names, 7),
            "x": x,
            "y": x + 0.3 * rng.standard_normal(n),
            "z": rng.standard_normal(n),
        }
    )


ERRORS = {"x_se": 0.1, "y_se": 0.1}
FRAMES = {
    "correlate": lambda df, **k: correlate(df, x="x", y="y", permutations=99, **k),
    "leave_one_out": lambda df, **k: leave_one_out(df, x="x", y="y", **k),
    "deming": lambda df, **k: deming(df, x="x", y="y", **ERRORS, **k),
    "disattenuated": lambda df, **k: disattenuated(df, x="x", y="y", **ERRORS, **k),
    "simex": lambda df, **k: simex(df, x="x", y="y", **ERRORS, replicates=5, **k),
    "partial": lambda df, **k: partial_correlation(df, x="x", y="y", covariates="z", permutations=99, **k),
}


@pytest.mark.parametrize("name", FRAMES)
def test_panels_stand_in_order_of_first_appearance_and_do_not_see_each_other(name):
    both = FRAMES[name](table(), group="pair")
    assert list(dict.fromkeys(both["pair"])) == ["b", "a"]
    alone = FRAMES[name](table().query("pair == 'a'"), group="pair")
    shared = [c for c in both.columns if c != "p_holm"]  # Holm's p depends on how many panels there are
    theirs = both[both["pair"] == "a"].reset_index(drop=True)
    pd.testing.assert_frame_equal(theirs[shared], alone[shared], check_exact=False, rtol=1e-12)


@pytest.mark.parametrize("name", FRAMES)
def test_a_group_column_never_hides_a_result(name):
    with pytest.raises(UsageError, match=r"'n' has the name of a result column"):
        FRAMES[name](table(column="n"), group="n")


@pytest.mark.parametrize("name", FRAMES)
def test_one_repeated_label_is_noted_in_that_panel_alone(name):
    df = table()
    df["scheme"] = np.repeat(np.arange(7), 2).astype(str)
    df.loc[df["pair"].eq("a") & df["scheme"].eq("1"), "scheme"] = "0"
    found = FRAMES[name](df, group="pair", label="scheme")
    said = found["notes"].str.contains("more than one point is labelled 0")
    assert said[found["pair"] == "a"].all()
    assert not said[found["pair"] == "b"].any()


@pytest.mark.parametrize("name", ["correlate", "simex", "partial"])
def test_a_negative_seed_is_refused_before_any_panel(name):
    with pytest.raises(UsageError, match=r"^the seed must be 0 or more, got -1$"):
        FRAMES[name](table(), group="pair", seed=-1)


def test_an_error_inside_gets_the_name_of_its_panel_and_keeps_its_kind():
    def refuse(panel):
        yield {"value": panel.n, "notes": []}
        if panel.name in ("a", "all"):
            raise CheckError("nothing is left")

    panels = panels_for(table(), ["value"], x="x", y="y", group="pair")
    with pytest.raises(CheckError, match=r"^panel 'a': nothing is left$"):
        each_panel(panels, "pair", refuse)
    whole = panels_for(table(("a",)), ["value"], x="x", y="y")
    with pytest.raises(CheckError, match=r"^nothing is left$"):
        each_panel(whole, None, refuse)


def test_ranks_name_the_panel_too():
    df = pd.DataFrame({"pair": ["a", "a", "b", "b"], "scheme": ["s", "t", "s", "s"], "v": [1.0, 2, 3, 4]})
    with pytest.raises(UsageError, match=r"^panel 'b': a scheme has more than one row"):
        rank_probabilities(df.assign(se=0.1), value="v", label="scheme", se="se", group="pair")


def results() -> list[type[Result]]:
    for module in pkgutil.iter_modules(kdstats.association.__path__):
        importlib.import_module(f"kdstats.association.{module.name}")
    return Result.__subclasses__()


@pytest.mark.parametrize("kind", results(), ids=lambda kind: kind.__name__)
def test_every_result_tells_its_columns_and_keeps_its_notes(kind):
    assert kind.columns() == tuple(field.name for field in dataclasses.fields(kind))
    assert "notes" in kind.columns()


def test_a_result_is_ready_for_json():
    found = Disattenuated(0.5, 0.1, 0.8, 0.5, 0.4, 0.2, 0.9, 0.8, 9, 0.95, "m", ("one", "two"))
    plain = found.to_dict()
    assert plain["notes"] == ["one", "two"]
    assert json.loads(json.dumps(plain)) == plain


def test_notes_of_a_cell_part_where_they_were_joined():
    assert notes_text(["one; and more", "two"]).split("; ") == ["one, and more", "two"]
    df = table(("a", "b", "c"))
    found = partial_correlation(df, x="x", y="y", covariates="z", group="pair", across=True, permutations=99)
    for text in found["notes"]:
        (said,) = [note for note in text.split("; ") if "schemes" in note]
        assert said.startswith("without label=")
    df["scheme"] = np.repeat(np.arange(7), 3).astype(str)
    df.loc[[0, 3], "scheme"] = "flip; crop"
    notes = correlate(df, x="x", y="y", group="pair", label="scheme")["notes"]
    said = "more than one point is labelled flip, crop: repeats of one scheme are not independent points"
    assert [said in text.split("; ") for text in notes] == [True] * 3 + [False] * 6


def test_result_columns_of_correlate_are_those_of_its_frame():
    assert list(correlate(table(), x="x", y="y", group="pair").columns) == ["pair", *RESULT_COLUMNS]
