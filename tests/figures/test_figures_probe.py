"""Convergence, components and ranking: what is drawn is what was given."""

from __future__ import annotations

import numpy as np
import pytest

from kdstats.errors import UsageError
from kdstats.figures.components import PARTS, components_figure
from kdstats.figures.convergence import convergence_figure, spread_out
from kdstats.figures.ranking import ranking_figure
from kdstats.figures.style import COLUMN

PATH = ([10, 20, 40], [0.5, 0.4, 0.42], [0.3, 0.35, 0.4], [0.7, 0.5, 0.44])


def results(n: int = 3) -> list[dict]:
    rng = np.random.default_rng(0)
    return [
        {
            "scheme": f"s{i}",
            "t_stddev": 1.0 + (i * 7) % n,
            "low": 0.9 + (i * 7) % n,
            "high": 1.2 + (i * 7) % n,
            "components": dict(zip((key for key, *_ in PARTS), [*rng.random(3), -rng.random()], strict=True)),
            "design_effect": 1.5 + i,
            "effective_inputs": 640 / (1.5 + i),
        }
        for i in range(n)
    ]


def test_convergence_draws_values_and_bands():
    figure, facts = convergence_figure({"cutmix": PATH, "identity": PATH}, confidence=0.9)
    ax = figure.axes[0]
    assert figure.get_figwidth() == COLUMN
    assert ax.get_xscale() == "log"
    assert len(ax.lines) == len(ax.collections) == 2
    np.testing.assert_array_equal(ax.lines[0].get_xydata(), np.column_stack(PATH[:2]))
    corners = ax.collections[0].get_paths()[0].vertices
    for at, low, high in zip(PATH[0], PATH[2], PATH[3], strict=True):
        here = corners[corners[:, 0] == at, 1]
        assert (here.min(), here.max()) == (low, high)
    assert facts.schemes["cutmix"] == (0.42, 0.4, 0.44)
    assert "up to 40" in facts.caption()
    assert "90 % intervals" in facts.caption()
    assert {text.get_text() for text in ax.texts} == {"CutMix", "Identity"}


def test_labels_are_apart_in_order_and_near():
    rng = np.random.default_rng(1)
    for _ in range(200):
        n = int(rng.integers(1, 12))
        wanted = np.sort(rng.random(n))
        placed = spread_out(wanted, 0.08, 0.0, 1.0)
        assert placed.min() >= -1e-12
        assert placed.max() <= 1 + 1e-12
        assert (np.diff(placed) >= min(0.08, 1 / max(n - 1, 1)) - 1e-12).all()
    far = np.array([0.1, 0.5, 0.9])
    np.testing.assert_allclose(spread_out(far, 0.08, 0, 1), far)
    np.testing.assert_allclose(spread_out(np.array([0.5, 0.5]), 0.1, 0, 1), [0.45, 0.55])


def test_components_stack_to_both_sides_and_add_up():
    rows = results()
    figure, facts = components_figure(rows, pool_inputs=640)
    ax = figure.axes[0]
    scale = 10.0**facts.power
    for row, result in enumerate(rows):
        values = list(result["components"].values())
        bars = [p for p in ax.patches if abs(p.get_y() + p.get_height() / 2 - row) < 1e-9]
        assert [bar.get_width() for bar in bars] == pytest.approx([v * scale for v in values])
        assert max(bar.get_x() + bar.get_width() for bar in bars[:3]) == pytest.approx(
            sum(values[:3]) * scale
        )
        assert bars[3].get_x() == pytest.approx(0)
        assert ax.lines[row].get_xdata() == pytest.approx([sum(values) * scale] * 2)
        assert f"{result['design_effect']:.2f} · {result['effective_inputs']:.0f}" in ax.texts[row].get_text()
    assert "from 183 (s2) to 427 (s0)" in facts.caption()


def test_ranking_is_sorted_and_shows_the_null():
    rows = results(5)
    figure, facts = ranking_figure(rows, null=2.5, null_inputs=320, confidence=0.95)
    ax = figure.axes[0]
    values = [value for value, _, _ in facts.schemes.values()]
    assert values == sorted(values)
    dots = [line.get_xdata()[0] for line in ax.lines if line.get_marker() not in ("None", "")]
    assert dots == values
    bars = [tuple(line.get_xdata()) for line in ax.lines[0:10:2]]
    assert bars == [(low, high) for _, low, high in facts.schemes.values()]
    assert ax.lines[-1].get_xdata() == [2.5, 2.5]
    assert "Dotted: 2.5" in facts.caption()
    assert "identity" not in facts.caption()


def test_nothing_to_draw_is_refused():
    for draw in (
        lambda: convergence_figure({}, confidence=0.95),
        lambda: convergence_figure({"a": ([], [], [], [])}, confidence=0.95),
        lambda: components_figure([], pool_inputs=640),
        lambda: ranking_figure([], null=1, null_inputs=1, confidence=0.95),
    ):
        with pytest.raises(UsageError):
            draw()
