"""The power figure: what is drawn is what the plans say."""

from __future__ import annotations

import numpy as np
import pytest

from kdstats.association.pilot import Spread
from kdstats.association.power_correlation import correlation_power, correlation_power_of
from kdstats.association.power_curve import power_curve
from kdstats.association.power_gap import gap_power, power_of
from kdstats.errors import UsageError
from kdstats.figures.power import power_figure
from kdstats.figures.style import save

SPREAD = Spread.given(0.01, correlation=0.5, df=8)


def test_lines_bands_and_dots(tmp_path):
    plans = [gap_power(SPREAD, gap=g, comparisons=8) for g in (0.01, 0.02)]
    figure, facts = power_figure(plans)
    ax = figure.axes[0]
    lines = [line for line in ax.lines if len(line.get_xdata()) > 2]
    assert [line.get_label() for line in lines] == ["gap 0.01", "gap 0.02"]
    for line, plan in zip(lines, plans, strict=True):
        for x, y in line.get_xydata()[::7]:
            expected = power_of(plan.gap, int(x), 0.01, alpha=0.05 / 8)
            assert y == pytest.approx(expected, abs=1e-12)
    dots = [tuple(line.get_xydata()[0]) for line in ax.lines if line.get_marker() == "o"]
    assert dots == [(plan.seeds, plan.power) for plan in plans]
    assert len(ax.collections) == 2
    assert ax.get_xlim()[1] > max(plan.seeds for plan in plans)
    caption = facts.caption()
    assert f"gap 0.02: {plans[1].seeds} seeds" in caption
    assert "alpha 0.00625 each" in caption
    assert "95 % interval of the pilot" in caption
    assert save(figure, tmp_path / "power.png").stat().st_size > 5000


def test_curves_run_along_what_was_asked():
    for plan, axis, answer in (
        (gap_power(SPREAD, gap=0.01), "seeds", 10),
        (gap_power(SPREAD, gap=0.01, seeds=4), "seeds", 4),
        (gap_power(SPREAD, seeds=10), "gap", None),
        (correlation_power(r=0.8), "schemes", 9),
        (correlation_power(r=0.6, schemes=9, tau=0.6), "pairs", None),
        (correlation_power(schemes=9), "r", None),
    ):
        curve = power_curve(plan)
        assert curve.axis == axis
        assert answer in (None, curve.answer)
        assert curve.at[0] < curve.answer < curve.at[-1]
        assert list(curve.power) == sorted(curve.power)
        assert all(lo <= p <= hi for lo, p, hi in zip(curve.low, curve.power, curve.high, strict=True))
        assert np.interp(curve.answer, curve.at, curve.power) == pytest.approx(plan.power, abs=0.02)
        assert isinstance(curve.to_dict()["at"], list)
        _, facts = power_figure([plan])
        assert (facts.target is None) == (plan.asked == "power")
    held = correlation_power(schemes=9, reliability=0.8)
    curve = power_curve(held)
    assert curve.power[10] == correlation_power_of(0.8**0.5 * curve.at[10], 9)


def test_what_is_refused():
    plan = gap_power(SPREAD, gap=0.01)
    with pytest.raises(UsageError, match="1 to 6 plans, not 0"):
        power_figure([])
    with pytest.raises(UsageError, match="1 to 6 plans, not 7"):
        power_figure([plan] * 7)
    with pytest.raises(UsageError, match="share an axis"):
        power_figure([plan, gap_power(SPREAD, seeds=5)])
