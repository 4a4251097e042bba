"""T. stddev against its rivals, covariance against softness: what is planted is found, what is not is not claimed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from planted import planted
from synthetic_study import NINE

from analyses import rival_predictors, softness
from analyses.inference import readings
from analyses.inference.association import HOLDS, ONE_SCHEME, UNCLEAR
from analyses.inference.difference_of_r import difference_of_r
from analyses.inference.readings import sign_of
from analyses.study import Study
from analyses.study.teacher_numbers import collect
from kdstats.association.partial import partial_correlation
from kdstats.errors import CheckError, UsageError

Make = Callable[..., Study]
PAIR = "resnet8/lenet8"
THREE = ("resnet8/lenet8", "resnet8/lenet5", "resnet20/lenet8")
NOT_PICKED = (*(f"s{i:02}" for i in range(13)), "identity")


def scores(rng: int, names: tuple[str, ...] = NOT_PICKED) -> dict[str, float]:
    return dict(zip(names, np.random.default_rng(rng).standard_normal(len(names)), strict=True))


def with_rivals(
    study: Study, causes: Mapping[str, float], noise: float = 0.0005, cause: str = "t", rng: int = 1
) -> Study:
    """Losses follow ``causes``; the number called ``cause`` shows them, all others are noise of their own."""
    t = {s: 0.003 + 0.0003 * z for s, z in (causes if cause == "t" else scores(rng + 50)).items()}
    rivals = {
        name: {s: 0.5 + 0.05 * z for s, z in (causes if cause == name else scores(rng + at)).items()}
        for at, name in enumerate(("view_entropy", "view_accuracy", "kl_view_original"), start=2)
    }

    def loss(pair: str, scheme: str, seed: int) -> float:
        own = np.random.default_rng([rng, seed, *pair.encode(), *scheme.encode()]).normal(0, noise)
        return float(0.5 + 0.01 * causes[scheme] + own)

    spread = {s: {"var_original": 1e-5, "var_augmented": 1e-5, "cov_views": 1e-5} for s in causes}
    parts = {s: {**row, "cov_cross": 1e-6 * (2 + scores(rng + 9)[s])} for s, row in spread.items()}
    return planted(study, loss=loss, t=t, rivals=rivals, parts=parts)


@pytest.fixture
def base(made: Make) -> Study:
    return made(schemes=NOT_PICKED, curves=False)


def kinds(result: rival_predictors.RivalPredictors) -> dict[str, str]:
    return dict(zip(result.correlations["predictor"], result.correlations["kind"], strict=True))


def test_t_stddev_is_found_to_be_better_where_it_is(base: Study) -> None:
    result = rival_predictors.run(with_rivals(base, scores(1)))
    assert kinds(result) == {"t_stddev": HOLDS} | dict.fromkeys(
        ("view_entropy", "view_accuracy", "kl_view_original", "cov_cross"), UNCLEAR
    )
    assert result.differences["told"].all()
    assert (result.differences["low"] > 0).all()
    beyond = result.partials[result.partials["predictor"] == "t_stddev"]
    assert (beyond["kind"] == HOLDS).all()
    assert (result.partials[result.partials["given"] == "t_stddev"]["kind"] == UNCLEAR).all()
    said = " ".join(result.findings)
    assert "T. stddev is closer to the test loss, in |r|, than entropy of views" in said
    assert "T. stddev goes with the test loss beyond entropy of views" in said
    assert "n = 14 schemes, Holm over 5" in said
    figure, facts = result.figure(PAIR)  # type: ignore[misc]
    assert len(figure.axes) == 2
    assert "5 numbers of the teacher alone" in facts.caption()
    assert "n = 14 schemes" in facts.caption()


def test_a_correlation_against_the_theory_is_said_to_be_so(base: Study) -> None:
    turned = with_rivals(base, {s: -v for s, v in scores(1).items()})
    t = {row["scheme"]: -row["t_stddev"] + 0.01 for row in turned.study.to_dict("records")}
    result = rival_predictors.run(planted(turned, loss=lambda p, s, k: 2 - 100 * t[s], t=t))
    assert kinds(result)["t_stddev"] == HOLDS
    said = " ".join(result.findings)
    assert "T. stddev (r −1.00" in said
    assert "; against the theory)" in said
    row = {"kind": HOLDS, "predictor": "view_entropy", "r": -0.9}
    assert sign_of(row) == "; more of it goes with a lower test loss"
    assert sign_of(row | {"r": 0.9}) == "; more of it goes with a higher test loss"
    assert sign_of(row | {"kind": UNCLEAR}) == ""
    assert sign_of(row | {"predictor": "log_effect"}) == "; against the theory"
    assert sign_of(row | {"predictor": "log_effect", "r": 0.9}) == ""


def test_a_rival_is_found_to_be_better_where_it_is(base: Study) -> None:
    result = rival_predictors.run(with_rivals(base, scores(1), cause="view_entropy"))
    assert kinds(result)["view_entropy"] == HOLDS
    assert kinds(result)["t_stddev"] == UNCLEAR
    said = " ".join(result.findings)
    assert "entropy of views (−" in said
    assert "closer to the test loss, in |r|, than T. stddev" in said
    assert "beyond T. stddev the test loss goes with entropy of views" in said
    assert "T. stddev goes with the test loss beyond" not in said


def test_nothing_is_claimed_where_nothing_is_planted(base: Study) -> None:
    result = rival_predictors.run(with_rivals(base, scores(1), cause="none"))
    assert set(kinds(result).values()) == {UNCLEAR}
    assert not result.differences["told"].any()
    assert (result.partials["kind"] == UNCLEAR).all()
    said = " ".join(result.findings)
    assert "closer to the test loss, in |r|" not in said
    assert "with the test loss beyond" not in said


def test_out_of_pair(made: Make) -> None:
    study = made(schemes=NOT_PICKED[-7:], pairs=THREE, curves=False)
    result = rival_predictors.run(with_rivals(study, scores(1)))
    table = result.out_of_pair.set_index("predictor")
    assert table.loc["t_stddev", "concordance"] > 0.9
    assert table.loc["t_stddev", "regret"] < 0.002
    assert table.loc["view_accuracy", "concordance_low"] < 0.7
    assert table.loc["t_stddev", "pairs"] == 3
    assert "0.5 is guessing" in result.findings[-1]
    two = made("two", schemes=NINE, pairs=THREE[:2], curves=False)
    refused: dict[tuple[str, str], str] = {}
    assert rival_predictors._out_of_pair(collect(two), refused, two).empty
    assert refused["", "t_stddev"] == "2 pairs; an order learned on others needs 3"


def test_what_is_absent_is_refused_and_never_nan(made: Make, base: Study) -> None:
    result = rival_predictors.run(made(curves=False))  # accuracy and KL are the same for all schemes there
    assert result.refused[PAIR, "view_accuracy"] == "the same for all schemes"
    assert "teacher's accuracy on views: the same for all schemes" in result.findings[0]
    assert set(result.correlations["predictor"]) == {"t_stddev", "view_entropy", "cov_cross"}
    assert not result.correlations[["r", "low", "high", "p_holm"]].isna().any(axis=None)
    bare = planted(base, loss=lambda p, s, k: 0.5 + 0.01 * scores(1)[s] + 0.001 * k, rivals={})
    alone = rival_predictors.run(bare)
    assert alone.refused[PAIR, "view_entropy"] == "not on record in the teacher-only measurements"
    some = {"view_entropy": {s: v for s, v in scores(4).items() if s != "s03"}}
    part = rival_predictors.run(planted(base, loss=lambda p, s, k: 0.5 + 0.01 * scores(1)[s], rivals=some))
    assert part.refused[PAIR, "view_entropy"] == "not on record for s03"
    few = rival_predictors.run(made("few", schemes=NINE[:4], curves=False))
    assert few.correlations.empty
    assert few.figure(PAIR) is None
    assert "a correlation with an interval needs 5" in few.findings[0]


def test_partial_correlations_are_those_of_the_library_and_hang_on_no_one_scheme() -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(rng.standard_normal((9, 3)), columns=["x", "z", "y"]).assign(
        scheme=list("abcdefghi")
    )
    frame["y"] += frame["x"]
    library = partial_correlation(frame, x="x", y="y", covariates="z", label="scheme", permutations=1)
    pearson = library[library["method"] == "pearson"].iloc[0]
    ends = readings.partial_interval(frame, "x", "z", "y")
    assert ends == pytest.approx((pearson["estimate"], pearson["low"], pearson["high"]))
    far = pd.DataFrame({"x": [*rng.standard_normal(11), 9.0], "z": rng.standard_normal(12)})
    far = far.assign(y=[*rng.standard_normal(11), 9.0], scheme=list("abcdefghijkl"))
    table, refused = readings.partial_readings(far, [("x", "z")], "y", seed=0)
    assert not refused
    assert table["kind"].tolist() in ([ONE_SCHEME], [UNCLEAR])
    assert table["without"].tolist() == ["l"]
    assert table["low"].iloc[0] > 0.5
    with pytest.raises(CheckError, match="explains"):
        readings.partial_interval(frame.assign(x=2 * frame["z"]), "x", "z", "y")
    with pytest.raises(UsageError, match="needs 5 points"):
        readings.partial_interval(frame.iloc[:4], "x", "z", "y")


@pytest.mark.parametrize(
    ("low", "high", "p", "kind"),
    [(0.4, 0.99, 0.01, HOLDS), (-0.01, 0.99, 0.01, UNCLEAR), (0.4, 0.99, 0.06, UNCLEAR)],
)
def test_interval_and_permutation_test_must_both_agree(low: float, high: float, p: float, kind: str) -> None:
    rng = np.random.default_rng(2)
    x, z = rng.standard_normal((2, 9))
    frame = pd.DataFrame({"x": x, "z": z, "y": x + 0.3 * rng.standard_normal(9), "scheme": list("abcdefghi")})
    row = {"predictor": "x", "given": "z", "estimate": 0.9, "low": low, "high": high, "n": 9}
    assert readings._read(frame, row, p, "y").kind == kind


def test_the_difference_of_r_knows_what_it_shares() -> None:
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((2, 30))
    y = y + x
    options: dict[str, Any] = {"confidence": 0.95, "resamples": 499}
    same = difference_of_r(x, 3 - 2 * x, y, rng=rng, **options)
    assert (same.value, same.low, same.high) == pytest.approx((0, 0, 0), abs=1e-12)
    z = rng.standard_normal(30)
    there = difference_of_r(x, z, y, rng=np.random.default_rng(1), **options)
    back = difference_of_r(z, x, y, rng=np.random.default_rng(1), **options)
    assert there.value == pytest.approx(abs(np.corrcoef(x, y)[0, 1]) - abs(np.corrcoef(z, y)[0, 1]))
    assert (back.low, back.high) == pytest.approx((-there.high, -there.low))
    again = difference_of_r(x, z, y, rng=np.random.default_rng(1), **options)
    assert again == there
    assert math.isnan(difference_of_r(x, z, 2 * x, rng=rng, **options).low)
    with pytest.raises(UsageError, match="needs 5 schemes"):
        difference_of_r(x[:4], z[:4], y[:4], rng=rng, **options)
    with pytest.raises(CheckError):
        difference_of_r(x, np.ones(30), y, rng=rng, **options)


@pytest.mark.simulation
@pytest.mark.parametrize("rho", [0.0, 0.9])
def test_the_difference_of_r_covers(rho: float) -> None:
    rng = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        y, a, b = rng.standard_normal((3, 9))
        x, z = (rho * y + math.sqrt(1 - rho**2) * e for e in (a, b))
        found = difference_of_r(x, z, y, confidence=0.95, resamples=299, rng=rng)
        hits += found.low <= 0 <= found.high
    assert hits >= 180, hits  # 0.94 or more in the benchmark: below 180 in fewer than 1 of 100 such tests


# --- covariance or softness ---


def by_parts(study: Study, effect: float, soft: float, rng: int = 3, noise: float = 0.004) -> Study:
    """Losses follow the design effect and the entropy of views by the weights given."""
    names = tuple(study.card.schemes)
    e, h = scores(rng, names), scores(rng + 1, names)
    e["identity"] = h["identity"] = 0.0
    spread = {s: 2e-5 * math.exp(-0.1 * h[s]) for s in names}
    parts = {
        s: {
            "var_original": spread[s] / 2,
            "var_augmented": spread[s] / 2,
            "cov_views": 0.5 * spread[s],
            "cov_cross": spread[s] * (1.5 * math.exp(0.2 * e[s]) - 1.5),
        }
        for s in names
    }

    def loss(pair: str, scheme: str, seed: int) -> float:
        own = np.random.default_rng([rng, seed, *scheme.encode()]).normal(0, noise)
        return float(0.5 + 0.01 * (effect * e[scheme] - soft * h[scheme]) + own)

    return planted(
        study,
        loss=loss,
        t={s: math.sqrt(sum(parts[s].values())) for s in names},
        rivals={"view_entropy": {s: 0.5 + 0.1 * h[s] for s in names}},
        parts=parts,
    )


def kind_of(result: softness.Softness, x: str, given: str) -> str:
    rows = result.partials[(result.partials["predictor"] == x) & (result.partials["given"] == given)]
    return str(rows["kind"].iloc[0])


def test_dependence_beyond_softness_is_found(base: Study) -> None:
    result = softness.run(by_parts(base, effect=1, soft=0))
    assert kind_of(result, "log_effect", "view_entropy") == HOLDS
    assert kind_of(result, "view_entropy", "log_effect") == UNCLEAR
    said = " ".join(result.findings)
    assert "design effect (log) given entropy of views (partial r 0.9" in said
    assert "goes with the test loss, whichever scheme is left out (n = 14 schemes)" in said
    figure, facts = result.figure(PAIR)  # type: ignore[misc]
    assert len(figure.axes) == 2
    assert "partial r 0.9" in facts.caption()
    assert "13 schemes" in facts.caption()


def test_dependence_that_goes_the_other_way_is_said_to(base: Study) -> None:
    result = softness.run(by_parts(base, effect=-1, soft=0))
    assert kind_of(result, "log_effect", "view_entropy") == HOLDS
    told = [text for text in result.findings if "design effect (log) given entropy of views" in text]
    assert "; against the theory) goes with the test loss" in told[0]


def test_softness_alone_is_not_called_dependence(base: Study) -> None:
    result = softness.run(by_parts(base, effect=0, soft=1))
    assert kind_of(result, "log_effect", "view_entropy") == UNCLEAR
    assert kind_of(result, "view_entropy", "log_effect") == HOLDS
    none = softness.run(by_parts(base, effect=0, soft=0, noise=0.01))
    assert (none.partials["kind"] == UNCLEAR).all()
    assert "whichever scheme is left out" not in " ".join(none.findings)


def test_every_gain_is_split_and_the_shares_are_those_of_the_parts(base: Study) -> None:
    result = softness.run(by_parts(base, effect=1, soft=1))
    rows = result.split.set_index("scheme")
    assert "identity" not in rows.index
    for scheme in ("s00", "s07"):
        h, e = scores(4)[scheme], scores(3)[scheme]
        assert math.log1p(rows.loc[scheme, "softer"]) == pytest.approx(-0.1 * h)
        # (spread + ½ spread + spread (1.5 exp(0.2 e) − 1.5)) / spread, over 1.5 of identity
        assert math.log1p(rows.loc[scheme, "dependence"]) == pytest.approx(0.2 * e)
        assert rows.loc[scheme, "softer_share"] == pytest.approx(-0.1 * h / (-0.1 * h + 0.2 * e))
    assert sum("changes the variance behind T. stddev by −" in text for text in result.findings) == int(
        (rows["change"] < 0).sum()
    )


def test_softness_without_measurements_says_so(made: Make) -> None:
    result = softness.run(made(documents=False, curves=False))
    assert result.findings[0] == "resnet8: no teacher-only measurement is in the study."
    assert "not on record in the teacher-only measurements" in result.findings[1]
    assert result.figure(PAIR) is None
