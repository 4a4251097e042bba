"""The worked analysis of the published study: golden numbers, independent recomputation, and the committed page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from scipy import stats

from analyses.published_wang2022 import run
from analyses.published_wang2022.__main__ import main
from analyses.published_wang2022.accuracy import BOTH, CONTRASTS
from analyses.published_wang2022.claims import NOT_SHOWN, PARTLY, SHOWN, claims, findings
from analyses.published_wang2022.page import document, figure, markdown, write_page
from kdstats.published import load_published

ROOT = Path(__file__).resolve().parents[2]
EVIDENCE = ROOT / "reports" / "evidence" / "wang2022"


@pytest.fixture(scope="module")
def result():
    return run(seed=0)


@pytest.fixture(scope="module")
def points() -> pd.DataFrame:
    return load_published("wang2022").points


def test_the_printed_numbers_are_reproduced(result):
    assert result.unreproduced == ()


def test_holm_is_that_of_statsmodels(result, points):
    from statsmodels.stats.multitest import multipletests

    p = [stats.pearsonr(g["t_stddev"], g["test_loss"]).pvalue for _, g in points.groupby("panel", sort=False)]
    ours = [result.every.pearson(name)["p_holm"] for name in dict.fromkeys(points["panel"])]
    np.testing.assert_allclose(ours, multipletests(p, method="holm")[1], rtol=1e-9)


def test_mean_over_panels_is_dersimonian_laird_with_hartung_knapp(result, points):
    r = np.array(
        [stats.pearsonr(g["t_stddev"], g["test_loss"]).statistic for _, g in points.groupby("panel")]
    )
    z, v = np.arctanh(r), 1 / 6
    k = r.size
    q = ((z - z.mean()) ** 2).sum() / v
    tau2 = max(0.0, (q - (k - 1)) * v / (k - 1))
    mean = z.mean()
    se = math.sqrt((v + tau2) / k * max(1.0, ((z - mean) ** 2).sum() / (k - 1) / (v + tau2)))
    row = result.means[
        (result.means["subset"] == "all panels") & (result.means["coefficient"] == "pearson")
    ].iloc[0]
    reach = stats.t.ppf(0.975, k - 1) * se
    assert row["estimate"] == pytest.approx(math.tanh(mean), rel=1e-9)
    assert (row["low"], row["high"]) == pytest.approx(
        (math.tanh(mean - reach), math.tanh(mean + reach)), rel=1e-9
    )
    without = result.means[result.means["subset"] == "without ImageNet"].iloc[0]
    assert without["k"] == 9


def test_common_slope_is_that_of_dummy_regression(result, points):
    fit = smf.ols("test_loss ~ t_stddev + C(panel)", points).fit()
    default = result.regression[result.regression["default"]]
    raw = default[default["columns"] == "raw"]
    assert raw["estimate"].tolist() == pytest.approx([fit.params["t_stddev"]] * 2, rel=1e-8)
    t = fit.tvalues["t_stddev"]
    assert result.repeated.estimate == pytest.approx(t / math.sqrt(t**2 + fit.df_resid), rel=1e-8)


def test_beyond_the_scheme_is_the_partial_correlation_of_residuals(result, points):
    scaled = {
        c: points.groupby("panel")[c].transform(lambda v: (v - v.mean()) / v.std())
        for c in ("t_stddev", "test_loss")
    }
    others = []
    for i, row in points.iterrows():
        mates = points.index[(points["scheme"] == row["scheme"]) & (points.index != i)]
        others.append(scaled["t_stddev"].loc[mates].mean())
    # A leave-one-out mean is not centred within its panel; panel effects are.
    table = points.assign(x=scaled["t_stddev"], y=scaled["test_loss"], others=others)
    left = [smf.ols(f"{c} ~ others + C(panel)", table).fit().resid for c in ("x", "y")]
    found = result.beyond.set_index("method").loc["pearson"]
    assert found["estimate"] == pytest.approx(stats.pearsonr(*left).statistic, abs=1e-10)


def test_contrasts_are_paired_t_tests_over_pairs(result):
    table = load_published("wang2022").accuracy
    wide = table[table["dataset"] == "cifar100"].pivot(index="panel", columns="method", values="top1")
    test = stats.ttest_rel(wide["KD+CutMixPick"], wide["KD+CutMix"])
    row = result.accuracy.contrast("CutMixPick instead of CutMix", "cifar100")
    interval = test.confidence_interval()
    assert row["p_value"] == pytest.approx(test.pvalue, rel=1e-10)
    assert (row["low"], row["high"]) == pytest.approx((interval.low, interval.high), rel=1e-10)
    assert (row["positive"], row["pairs"]) == (int((wide["KD+CutMixPick"] > wide["KD+CutMix"]).sum()), 7)


def test_a_pair_alone_is_welchs_test(result):
    rows = result.accuracy.pairs
    row = rows[
        (rows["contrast"] == "CutMixPick added to KD")
        & (rows["dataset"] == "cifar100")
        & (rows["pair"] == "wrn_40_2/wrn_16_2")
    ].iloc[0]
    welch = stats.ttest_ind_from_stats(75.59, 0.22, 3, 74.92, 0.28, 3, equal_var=False)
    assert row["difference"] / row["se"] == pytest.approx(welch.statistic, rel=1e-9)
    assert (row["low"] > 0) == (welch.pvalue < 0.05)


def test_every_contrast_uses_methods_with_weights_that_sum_to_zero(result):
    assert all(sum(weights.values()) == 0 for weights in CONTRASTS.values())
    assert len(result.accuracy.contrasts) == 3 * len(CONTRASTS)


def test_over_both_data_sets_a_pair_is_one_unit(result):
    one, two, both = (
        result.accuracy.contrast("longer, KD", key) for key in ("cifar100", "tinyimagenet", BOTH)
    )
    assert both["difference"] == pytest.approx((one["difference"] + two["difference"]) / 2, rel=1e-12)
    assert both["pairs"] == 7
    assert both["teachers"] == 5


def test_claims_go_where_the_numbers_go(result):
    verdicts = [claim.verdict for claim in claims(result)]
    assert verdicts == [SHOWN, NOT_SHOWN, SHOWN, PARTLY, PARTLY, SHOWN]
    texts = " ".join(claim.evidence for claim in claims(result)) + " ".join(findings(result))
    for said in (
        "r 0.35 [−0.41, 0.82]",
        "after Holm over the ten panels p = 0.051",
        "without cutmix_pick_teacher r 0.49",
        "9 of 10 panels, share [0.555, 0.997]",
        "one choice seen 10 times",
        "14 of 30 p-values are printed as 0.00 %",
        "survives in 6 of 10 panels instead of 8",
    ):
        assert said in texts


def test_a_verdict_turns_when_its_numbers_turn(result):
    rows = result.every.correlations.copy()
    imagenet = rows["panel"].str.startswith("imagenet ")
    rows.loc[imagenet, ["low", "high"]] = (0.2, 0.8)
    turned = replace(result, every=replace(result.every, correlations=rows))
    assert claims(turned)[2].verdict == NOT_SHOWN
    beyond = result.beyond.assign(low=0.1, high=0.6)
    assert "adds to a fixed ranking of schemes." in " ".join(findings(replace(result, beyond=beyond)))
    assert "neither show nor rule out" not in " ".join(findings(replace(result, beyond=beyond)))


def test_errors_are_corrected_where_they_are_known(result, points):
    assert len(result.corrected) == 9
    panel = points[points["panel"] == "cifar100 vgg13/vgg8"]
    reliability = 1 - (panel["test_loss_std"] ** 2 / 3).mean() / panel["test_loss"].var(ddof=1)
    row = result.corrected.set_index("panel").loc["cifar100 vgg13/vgg8"]
    r = stats.pearsonr(panel["t_stddev"], panel["test_loss"]).statistic
    assert row["estimate"] == pytest.approx(r / math.sqrt(reliability), rel=1e-9)
    assert set(result.sensitivity["panel"]) == set(points["panel"])


def test_without_the_picks_nine_schemes_become_seven(result):
    assert set(result.plain.correlations["n"]) == {7}
    assert not any("pick" in label for panel in result.plain.regret.panels for label in panel.chosen)


def test_page_is_written_from_the_numbers(result, tmp_path):
    files = [path.name for path in write_page(result, tmp_path / "new" / "folder")]
    assert files == ["README.md", "result.json", "correlations.csv", "contrasts.csv", "panels.png"]
    assert len((tmp_path / "new" / "folder" / "panels.png").read_bytes()) > 50_000
    text = markdown(result, figure(result)[1])
    assert re.search(r"\bnan\b", text, re.IGNORECASE) is None
    assert "74.92 ± 0.28" in text
    assert "digit for digit" in text


def test_the_committed_evidence_is_what_the_analysis_gives(result):
    kept = json.loads((EVIDENCE / "result.json").read_text(encoding="utf-8"))
    fresh = json.loads(
        json.dumps(document(result), default=float).replace("NaN", "null").replace("Infinity", "null")
    )
    for part in ("claims", "findings"):
        assert kept[part] == fresh[part]
    for part in ("means", "corrected_for_errors", "beyond_the_scheme"):
        for a, b in zip(kept[part], fresh[part], strict=True):
            for name, value in b.items():
                assert a[name] == (
                    pytest.approx(value, rel=1e-6, abs=1e-9) if isinstance(value, float) else value
                )
    assert kept["provenance"]["data"] == fresh["provenance"]["data"]


def test_a_bad_out_is_one_sentence_before_anything_is_computed(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("analyses.published_wang2022.__main__.run", lambda seed: pytest.fail("computed"))
    (tmp_path / "file").write_text("here", encoding="utf-8")
    assert main(["--out", str(tmp_path / "file")]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("published_wang2022: ")
    assert err.count("\n") == 1
    assert main(["--out", str(tmp_path), "--seed", "-1"]) == 2
