from __future__ import annotations

import math
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import optimize, stats

from kdstats.association.attenuation import disattenuate, disattenuated
from kdstats.association.deming import deming, deming_fit
from kdstats.association.intervals import z_interval
from kdstats.association.simex import extrapolation, simex, simex_fit
from kdstats.errors import CheckError, UsageError
from kdstats.published import load_published

# Pearson's (1901) data with York's weights; the line is in York et al. 2004, table II.
YORK_X = np.array([0.0, 0.9, 1.8, 2.6, 3.3, 4.4, 5.2, 6.1, 6.5, 7.4])
YORK_Y = np.array([5.9, 5.4, 4.4, 4.6, 3.5, 3.7, 2.8, 2.8, 2.4, 1.5])
YORK_WX = np.array([1000, 1000, 500, 800, 200, 80, 60, 20, 1.8, 1.0])
YORK_WY = np.array([1, 1.8, 4, 8, 20, 20, 70, 70, 100, 500])


def noisy(seed: int, n: int = 9, error: float = 0.3) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(seed)
    true = rng.standard_normal(n)
    ex, ey = error * rng.uniform(0.5, 1.5, n), error * rng.uniform(0.5, 1.5, n)
    return true + ex * rng.standard_normal(n), 2 * true + ey * rng.standard_normal(n), ex, ey


def test_yorks_line_is_the_published_one():
    fit = deming_fit(YORK_X, YORK_Y, x_se=YORK_WX**-0.5, y_se=YORK_WY**-0.5, scatter="none")
    assert fit.slope == pytest.approx(-0.48053341, abs=1e-8)
    assert fit.intercept == pytest.approx(5.47991022, abs=1e-7)
    assert fit.chi2 == pytest.approx(11.8663532, abs=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_heteroscedastic_line_is_scipys_odr(seed):
    x, y, ex, ey = noisy(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        from scipy import odr
    theirs = odr.ODR(
        odr.RealData(x, y, ex, ey), odr.unilinear, beta0=[2.0, 0.0], sstol=1e-15, partol=1e-15
    ).run()
    fit = deming_fit(x, y, x_se=ex, y_se=ey, scatter="none")
    assert (fit.slope, fit.intercept) == pytest.approx(tuple(theirs.beta), abs=1e-6)
    assert fit.slope_se == pytest.approx(theirs.sd_beta[0], rel=0.15)


@pytest.mark.parametrize("ratio", [0.25, 1.0, 4.0])
def test_alike_errors_give_demings_closed_form_and_creasys_interval(ratio):
    x, y, *_ = noisy(7, n=12)
    fit = deming_fit(x, y, x_se=0.1, y_se=0.1 * math.sqrt(ratio), scatter="none")
    (sxx, sxy), (_, syy) = np.cov(x, y)
    slope = (syy - ratio * sxx + math.sqrt((syy - ratio * sxx) ** 2 + 4 * ratio * sxy**2)) / (2 * sxy)
    assert fit.slope == pytest.approx(slope, abs=1e-10)
    root = math.sqrt(ratio)
    a, b, c = sxx, syy / ratio, sxy / root
    t = stats.t.ppf(0.975, 10)
    half = math.asin(2 * t * math.sqrt((a * b - c * c) / (10 * ((a - b) ** 2 + 4 * c * c)))) / 2
    ends = [root * math.tan(math.atan(slope / root) + side * half) for side in (-1, 1)]
    assert (fit.slope_low, fit.slope_high) == pytest.approx(tuple(ends), abs=1e-9)


def test_without_errors_it_is_least_squares_to_the_last_number():
    x, y, *_ = noisy(3)
    fit, ols = deming_fit(x, y, x_se=None, y_se=None), stats.linregress(x, y)
    t = stats.t.ppf(0.975, 7)
    assert (fit.slope, fit.intercept) == pytest.approx((ols.slope, ols.intercept), abs=1e-10)
    assert fit.slope_se == pytest.approx(ols.stderr, rel=1e-6)
    assert fit.intercept_se == pytest.approx(ols.intercept_stderr, rel=1e-6)
    assert fit.slope_high == pytest.approx(ols.slope + t * ols.stderr, abs=1e-9)
    assert math.isnan(fit.chi2)


def test_alike_errors_and_free_scatter_give_the_moment_estimator():
    x, y, *_ = noisy(5, error=0.7)
    fit = deming_fit(x, y, x_se=0.3, y_se=0.05)
    assert fit.scatter > 0
    assert fit.slope == pytest.approx(np.cov(x, y)[0, 1] / (x.var(ddof=1) - 0.09), abs=1e-9)
    assert fit.slope_low < fit.slope < fit.slope_high


def test_the_line_knows_no_units_and_no_first_column():
    x, y, ex, ey = noisy(2)
    one = deming_fit(x, y, x_se=ex, y_se=ey)
    scaled = deming_fit(x * 1e-4 + 5, y * 100 - 3, x_se=ex * 1e-4, y_se=ey * 100)
    for name in ("slope", "slope_se", "slope_low", "slope_high"):
        assert getattr(scaled, name) == pytest.approx(getattr(one, name) * 1e6, rel=1e-6)
    there = deming_fit(x, y, x_se=ex, y_se=ey, scatter="none")
    back = deming_fit(y, x, x_se=ey, y_se=ex, scatter="none")
    assert back.slope == pytest.approx(1 / there.slope, abs=1e-9)
    assert back.slope_low == pytest.approx(1 / there.slope_high, rel=1e-6)


def test_what_cannot_be_said_is_said():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal(9), rng.standard_normal(9)
    wide = deming_fit(x, y, x_se=0.8, y_se=0.1)
    assert math.isinf(wide.slope_high) or math.isinf(wide.slope_low)
    assert any("do not bound" in note for note in wide.notes)
    misfit = deming_fit(x, y, x_se=0.01, y_se=0.01, scatter="none")
    assert misfit.p_fit < 1e-6
    assert any("does not fit" in note for note in misfit.notes)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"x_se": -0.1, "y_se": 0.1}, UsageError, "negative"),
        ({"x_se": [0.1, 0.2], "y_se": 0.1}, UsageError, "one per point"),
        ({"x_se": math.nan, "y_se": 0.1}, UsageError, "NaN"),
        ({"x_se": 0, "y_se": 0, "scatter": "none"}, CheckError, "no error"),
        ({"x_se": 0, "y_se": 0, "scatter": "nones"}, UsageError, "none"),
    ],
)
def test_deming_refusals(options, error, said):
    x, y, *_ = noisy(0)
    with pytest.raises(error, match=said):
        deming_fit(x, y, **options)


def test_disattenuation_is_spearmans_quotient_and_fishers_interval_without_errors():
    x, y, *_ = noisy(6, n=20, error=0.6)
    found = disattenuate(x, y, x_se=0.3, y_se=0.4)
    rel_x, rel_y = 1 - 0.09 / x.var(ddof=1), 1 - 0.16 / y.var(ddof=1)
    r = stats.pearsonr(x, y)
    assert (found.reliability_x, found.reliability_y) == pytest.approx((rel_x, rel_y), abs=1e-12)
    assert found.raw == pytest.approx(r.statistic / math.sqrt(rel_x * rel_y), abs=1e-12)
    assert found.p_value == pytest.approx(r.pvalue, rel=1e-9)
    assert found.low < found.estimate < found.high <= 1
    plain, fisher = disattenuate(x, y, x_se=None, y_se=None), z_interval("pearson", r.statistic, 20)
    assert (plain.low, plain.high) == (fisher.low, fisher.high)
    nearly = disattenuate(x, y, x_se=1e-6, y_se=None)
    assert (nearly.low, nearly.high) == pytest.approx((fisher.low, fisher.high), abs=1e-7)


def test_profile_interval_is_that_of_a_direct_likelihood():
    x, y, *_ = noisy(8, n=12, error=0.6)
    found = disattenuate(x, y, x_se=0.4, y_se=0.5)
    assert abs(found.raw) < 1
    s = np.cov(x, y)

    def deviance(rho: float) -> float:
        def value(logs: np.ndarray) -> float:
            a, b = np.exp(logs)
            v = np.array([[a * a + 0.16, rho * a * b], [rho * a * b, b * b + 0.25]])
            return float(np.linalg.slogdet(v)[1] + np.trace(np.linalg.solve(v, s)))

        return float(
            optimize.minimize(
                value, [-0.1, 0.5], method="Nelder-Mead", options={"xatol": 1e-9, "fatol": 1e-13}
            ).fun
        )

    cutoff = 2 * math.log(math.cosh(stats.norm.ppf(0.975) / 3))
    rise = deviance(found.low) - deviance(found.estimate)
    assert rise == pytest.approx(cutoff, abs=1e-6)
    assert found.high == 1 or deviance(found.high) - deviance(found.estimate) == pytest.approx(
        cutoff, abs=1e-6
    )


def test_quotients_beyond_one_and_lost_reliability_are_named():
    line = np.arange(9.0)
    y = line + np.array([0.3, -0.3] * 4 + [0.0])
    beyond = disattenuate(line, y, x_se=1.0, y_se=0.5)
    assert beyond.raw > 1
    assert beyond.estimate == beyond.high == 1
    assert any("set to +1" in note for note in beyond.notes)
    rng = np.random.default_rng(0)
    lost = disattenuate(rng.standard_normal(9), rng.standard_normal(9), x_se=2.0, y_se=0.1)
    assert lost.reliability_x < 0
    assert math.isnan(lost.estimate)
    assert (lost.low, lost.high) == (-1, 1)
    assert any("reliability of x" in note for note in lost.notes)


def test_extrapolation_reads_a_parabola():
    at = np.array([0, 0.5, 1, 1.5, 2])
    assert extrapolation(at) @ (3 + 2 * at - at**2) == pytest.approx(3 - 2 - 1, abs=1e-12)


def test_simex_without_errors_is_the_jackknifed_statistic():
    x, y, *_ = noisy(4)
    for statistic, value in (("slope", stats.linregress(x, y).slope), ("pearson", stats.pearsonr(x, y)[0])):
        found = simex_fit(
            x, y, x_se=None, y_se=None, statistic=statistic, replicates=2, rng=np.random.default_rng(0)
        )
        assert found.estimate == pytest.approx(value, abs=1e-10)
        assert found.monte_carlo_se == pytest.approx(0, abs=1e-12)
        left = [np.delete(np.column_stack([x, y]), i, axis=0).T for i in range(9)]
        of = [stats.linregress(*p).slope if statistic == "slope" else stats.pearsonr(*p)[0] for p in left]
        assert found.se == pytest.approx(
            math.sqrt(8 / 9 * ((np.array(of) - np.mean(of)) ** 2).sum()), abs=1e-10
        )


@pytest.mark.simulation
def test_planted_slope_and_correlation_come_back():
    rng = np.random.default_rng(5)
    true = rng.standard_normal(1_500)
    y = 2 * true + 1.5 * rng.standard_normal(1_500)  # rho 0.8
    x, seen = true + 0.5 * rng.standard_normal(1_500), y + rng.standard_normal(1_500)
    assert stats.linregress(x, seen).slope == pytest.approx(1.6, abs=0.15)
    assert deming_fit(x, seen, x_se=0.5, y_se=1.0).slope == pytest.approx(2, abs=0.2)
    assert disattenuate(x, seen, x_se=0.5, y_se=1.0).estimate == pytest.approx(0.8, abs=0.05)
    slope = simex_fit(x, seen, x_se=0.5, y_se=1.0, replicates=10, rng=rng)
    assert slope.estimate == pytest.approx(1.97, abs=0.2)
    assert slope.naive < slope.estimate


@pytest.mark.simulation
def test_slope_interval_covers():
    rng = np.random.default_rng(11)
    hits = []
    for _ in range(120):
        true = rng.standard_normal(9)
        x, y = true + 0.33 * rng.standard_normal(9), true + 0.5 * rng.standard_normal(9)
        fit = deming_fit(x, y, x_se=0.33, y_se=0.1)
        hits.append(fit.slope_low <= 1 <= fit.slope_high)
    assert 0.87 <= np.mean(hits) <= 0.995


def test_frames_name_panels_and_repeat_by_seed():
    points = load_published("wang2022").points
    points = points[points["panel"] != "imagenet resnet34/resnet18"].assign(
        x_se=lambda d: 0.01 * d.t_stddev, y_se=lambda d: d.test_loss_std / math.sqrt(3)
    )
    points = points.dropna(subset=["y_se"])
    shared = {
        "x": "t_stddev",
        "y": "test_loss",
        "x_se": "x_se",
        "y_se": "y_se",
        "group": "panel",
        "label": "scheme",
    }
    k = points["panel"].nunique()
    lines, r = deming(points, **shared), disattenuated(points, **shared)
    assert len(lines) == len(r) == k
    assert (r["estimate"] >= r["observed"]).all()
    assert (lines["slope"] / lines["naive_slope"]).between(0.98, 1.08).all()
    first = simex(points, **shared, replicates=20, seed=3)
    assert len(first) == 2 * k
    alone = simex(points[points["panel"] == points["panel"].iloc[0]], **shared, replicates=20, seed=3)
    assert alone["estimate"].iloc[0] == first["estimate"].iloc[0]
    with pytest.raises(UsageError, match="Did you mean 'x_se'"):
        deming(points, **{**shared, "x_se": "x_see"})
    with pytest.raises(UsageError, match="negative in row"):
        disattenuated(points.assign(x_se=-1.0), **shared)
    with pytest.raises(CheckError, match="panel 'cifar100"):
        deming(points.assign(x_se=0.0, y_se=0.0), **shared, scatter="none")
    with pytest.raises(UsageError, match="result column"):
        deming(points.rename(columns={"panel": "n"}), **{**shared, "group": "n"})


@pytest.mark.parametrize("lambdas", [[1, 2], [1, 1, 2], [0, 1, 2], [1, 2, math.inf]])
def test_simex_refusals(lambdas):
    x, y, *_ = noisy(0)
    with pytest.raises(UsageError, match="lambda"):
        simex_fit(x, y, x_se=0.1, y_se=0.1, lambdas=lambdas, rng=np.random.default_rng(0))
    with pytest.raises(UsageError, match="slope"):
        simex_fit(x, y, x_se=0.1, y_se=0.1, statistic="slop", rng=np.random.default_rng(0))


def test_few_points_are_refused():
    table = pd.DataFrame({"a": [1, 2, 3, 4.0], "b": [2, 1, 4, 3.0]})
    with pytest.raises(UsageError, match="at least 5"):
        deming(table, x="a", y="b", x_se=0.1, y_se=0.1)
    for refused in (deming_fit, disattenuate):
        with pytest.raises(UsageError, match="at least 5"):
            refused(table["a"], table["b"], x_se=0.1, y_se=0.1)


@pytest.mark.parametrize("scatter", ["estimated", "none"])
@pytest.mark.parametrize("slope", [2.0, -1 / 3])
def test_points_on_a_line_give_the_line_and_a_note(scatter, slope):
    x = np.arange(9.0)
    found = deming_fit(x, slope * x + 1, x_se=0.1, y_se=0.1, scatter=scatter)
    assert (found.slope, found.intercept) == pytest.approx((slope, 1))
    assert found.slope_low == found.slope == found.slope_high
    assert (found.chi2, found.p_fit, found.scatter) == (0, 1, 0)
    assert any("on a line" in note for note in found.notes)


def test_hardly_any_scatter_is_a_fit_or_a_named_error():
    x, rng = np.arange(9.0), np.random.default_rng(5)
    for jitter in 10.0 ** np.arange(-15, -3):
        for errors in ((0.1, 0.1), (0.1, None), (None, 0.1), (1e-9, 1e-9), (3.0, 0.1)):
            try:
                found = deming_fit(x, 2 * x + jitter * rng.standard_normal(9), x_se=errors[0], y_se=errors[1])
            except CheckError:
                continue
            assert found.slope_low <= found.slope <= found.slope_high
            assert found.slope == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("by_x", "by_y"), [(1e200, 1), (1e-200, 1), (1, 1e200), (1, 1e-200), (1e150, 1e-150)]
)
def test_extreme_units_change_the_units_alone(by_x, by_y):
    x, rng = np.arange(9.0), np.random.default_rng(6)
    y = x + rng.standard_normal(9)
    plain = deming_fit(x, y, x_se=0.5, y_se=0.5)
    found = deming_fit(x * by_x, y * by_y, x_se=0.5 * by_x, y_se=0.5 * by_y)
    unit = by_y / by_x
    assert (found.slope_low / unit, found.slope / unit, found.slope_high / unit, found.chi2) == pytest.approx(
        (plain.slope_low, plain.slope, plain.slope_high, plain.chi2), rel=1e-9
    )
    for statistic, factor in (("slope", unit), ("pearson", 1.0)):
        a, b = (
            simex_fit(
                x * i, y * j, x_se=0.5 * i, y_se=0.5 * j, statistic=statistic, rng=np.random.default_rng(0)
            )
            for i, j in ((1, 1), (by_x, by_y))
        )
        assert (b.low / factor, b.estimate / factor) == pytest.approx((a.low, a.estimate), rel=1e-9)


def test_results_beyond_a_float_and_lone_points_are_named():
    x = np.arange(9.0)
    y = x + np.random.default_rng(7).standard_normal(9)
    for fit in (deming_fit, lambda *a, **k: simex_fit(*a, rng=np.random.default_rng(0), **k)):
        with pytest.raises(CheckError, match="float64 can hold"):
            fit(x * 1e200, y * 1e-200, x_se=1e199, y_se=1e-201)
        with pytest.raises(CheckError, match="standard errors of x exceed"):
            fit(x, y, x_se=1e200, y_se=0.1)
    lone = np.r_[np.zeros(8), 1.0]
    for statistic, a, b in (("slope", lone, y), ("pearson", x, lone)):
        with pytest.raises(CheckError, match="without point 8"):
            simex_fit(a, b, x_se=0.1, y_se=0.1, statistic=statistic, rng=np.random.default_rng(0))


@pytest.mark.parametrize("statistic", ["slope", "pearson"])
def test_simex_extrapolates_nothing_from_a_column_that_is_all_error(statistic):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 9))
    sd = float(x.std(ddof=1))
    for share, lost in ((0.99, False), (1.01, True)):
        found = simex_fit(
            x,
            y,
            x_se=sd * share**0.5,
            y_se=None,
            statistic=statistic,
            replicates=10,
            rng=np.random.default_rng(1),
        )
        assert np.isnan(found.estimate) == lost
        assert any("nothing is extrapolated" in note for note in found.notes) == lost
        if lost:
            assert (found.low, found.high) == ((-1, 1) if statistic == "pearson" else (-np.inf, np.inf))
