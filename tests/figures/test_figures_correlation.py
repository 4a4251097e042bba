from __future__ import annotations

import io
import re
import subprocess
import sys

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest

from kdstats._version import __version__
from kdstats.association.correlate import correlate
from kdstats.errors import MissingError, UsageError
from kdstats.figures.correlation import correlation_figure
from kdstats.figures.style import _NINE, SCHEMES, check_path, marks, plain, save, style
from kdstats.labels import LABELS
from kdstats.published import load_published


@pytest.fixture(scope="module")
def points():
    return load_published("wang2022").points


@pytest.fixture(scope="module")
def results(points):
    return correlate(points, x="t_stddev", y="test_loss", group="panel", permutations=9)


@pytest.fixture(scope="module")
def ten(points, results):
    return correlation_figure(
        points,
        x="t_stddev",
        y="test_loss",
        group="panel",
        label="scheme",
        y_se="test_loss_std",
        results=results,
    )


def small(n: int = 6, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame({"a": rng.standard_normal(n), "b": rng.standard_normal(n), "e": 0.2})


def test_what_is_drawn_is_what_was_computed(ten, points, results):
    figure, facts = ten
    assert len(figure.axes) == len(facts.panels) == 10
    for ax, fact, (name, rows) in zip(
        figure.axes, facts.panels, points.groupby("panel", sort=False), strict=True
    ):
        assert fact.panel == name
        drawn = np.vstack(
            [line.get_xydata() for line in ax.lines[1:] if line.get_marker() not in ("None", "")]
        )
        expected = rows[["t_stddev", "test_loss"]].to_numpy()
        assert sorted(map(tuple, drawn)) == sorted(map(tuple, expected))
        slope, intercept = np.polyfit(rows["t_stddev"], rows["test_loss"], 1)
        assert (fact.slope, fact.intercept) == pytest.approx((slope, intercept), rel=1e-9)
        text = ax.texts[0].get_text()
        for symbol, row in zip("rρτ", results[results["panel"] == name].itertuples(), strict=True):
            printed = re.search(rf"{symbol} (\S+) \[(\S+), (\S+)\]", text.replace("−", "-")).groups()
            assert [float(v) for v in printed] == pytest.approx([row.estimate, row.low, row.high], abs=0.0051)
        assert "n = 9" in text


def test_the_band_is_the_one_of_statsmodels():
    import statsmodels.api as sm

    df = small(9)
    figure, _ = correlation_figure(df, x="a", y="b")
    fit = sm.OLS(df["b"], sm.add_constant(df["a"])).fit()
    ax = figure.axes[0]
    at = ax.lines[0].get_xdata()
    expected = fit.get_prediction(sm.add_constant(at)).conf_int(alpha=0.05)
    vertices = ax.collections[0].get_paths()[0].vertices
    for x, (low, high) in zip(at[[0, 20, 59]], expected[[0, 20, 59]], strict=True):
        here = vertices[np.isclose(vertices[:, 0], x), 1]
        assert (here.min(), here.max()) == pytest.approx((low, high), rel=1e-9)


def test_statistics_cover_no_point(ten):
    figure, _ = ten
    with style():
        figure.draw_without_rendering()
    for ax in figure.axes:
        box = ax.texts[0].get_window_extent()
        for line in ax.lines[1:]:
            for x, y in ax.transData.transform(line.get_xydata()):
                assert not box.contains(x, y)
        assert ax.get_window_extent().padded(1).containsx(box.x0)
        assert ax.get_window_extent().padded(1).containsx(box.x1)


def test_a_crowded_panel_gets_room_above():
    rng = np.random.default_rng(0)
    df = pd.DataFrame({"a": rng.uniform(size=400), "b": rng.uniform(size=400)})
    figure, _ = correlation_figure(df, x="a", y="b", results=correlate(df, x="a", y="b", permutations=9))
    ax = figure.axes[0]
    box = ax.texts[0].get_window_extent()
    inside = [box.contains(*p) for p in ax.transData.transform(df[["a", "b"]].to_numpy())]
    assert not any(inside)
    assert ax.get_ylim()[1] > 1.1


def test_caption_is_made_of_the_fields(ten):
    caption = ten[1].caption()
    assert "10 panels, n = 9 points each" in caption
    assert "95 % intervals (fisher-z, bonett-wright-z, normal-score)" in caption
    assert "(81 of 90 points)" in caption
    df = small()
    _, facts = correlation_figure(
        df,
        x="a",
        y="b",
        results=correlate(df, x="a", y="b", confidence=0.9, interval="bca", resamples=99),
        source="S",
    )
    assert facts.caption() == (
        "b against a (n = 6). r, ρ, τ: Pearson, Spearman, Kendall with 90 % intervals (bca). "
        "Line: least squares with its pointwise 90 % band. Source: S."
    )


def test_error_bars_both_ways():
    df = small()
    df.loc[0, "e"] = np.nan
    figure, facts = correlation_figure(df, x="a", y="b", x_se="e", y_se="e")
    segments = [s for c in figure.axes[0].collections[1:] for s in c.get_segments()]
    lengths = [float(np.ptp(s, axis=0).max()) for s in segments if len(s) and np.isfinite(s).all()]
    assert lengths == pytest.approx([0.4] * 10)
    assert facts.panels[0].bars == 5
    assert "(5 of 6 points)" in facts.caption()


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_files_are_reproducible_and_carry_no_time(tmp_path, suffix):
    for name in ("one", "two"):
        figure, _ = correlation_figure(small(), x="a", y="b")
        save(figure, tmp_path / f"{name}{suffix}")
    one, two = ((tmp_path / f"{name}{suffix}").read_bytes() for name in ("one", "two"))
    assert one == two
    assert b"kdstats" in one
    assert b"CreationDate" not in one
    assert b"dc:date" not in one
    if suffix == ".pdf":
        assert b"/Type3" not in one.replace(b" ", b"")


def test_suffix_and_folder_are_checked(tmp_path):
    with pytest.raises(UsageError, match=r"\.svg"):
        check_path(tmp_path / "plot.jpg")
    with pytest.raises(MissingError, match="create it first"):
        check_path(tmp_path / "no" / "plot.png")


def test_style_is_put_back():
    before = mpl.rcParams["pdf.fonttype"]
    with style():
        assert mpl.rcParams["pdf.fonttype"] == mpl.rcParams["ps.fonttype"] == 42
    assert mpl.rcParams["pdf.fonttype"] == before == 3


def test_marks_are_fixed_and_differ():
    nine = [SCHEMES[name] for name in _NINE]
    assert len({m.color for m in nine}) == len({m.marker for m in nine}) == 9
    assert len({(m.color, m.marker) for m in SCHEMES.values()}) == len(SCHEMES)
    assert set(SCHEMES) == set(LABELS)
    assert marks(["cutmix", "mine"])["cutmix"] == marks(["cutmix"])["cutmix"] == SCHEMES["cutmix"]
    names = [f"mine{i}" for i in range(24)]
    looks = marks(names)
    assert looks == {name: marks(names[::-1])[name] for name in names}
    assert len({(m.color, m.marker) for m in looks.values()}) == 24


def test_words_that_matplotlib_would_read_as_commands(tmp_path):
    df = small(12).assign(g=["_a $ b"] * 6 + ["$x_{"] * 6, l=["_s$", "t$"] * 6)
    figure, _ = correlation_figure(df, x="a", y="b", group="g", label="l", x_name="$a", y_name="_b")
    save(figure, tmp_path / "odd.svg")
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend == [" _s\\$", "t\\$"] == [plain("_s$"), plain("t$")]
    assert plain("x" * 50) == "x" * 39 + "…"


def test_refusals():
    df = small()
    with pytest.raises(UsageError, match="negative"):
        correlation_figure(df.assign(e=-1.0), x="a", y="b", x_se="e")
    with pytest.raises(UsageError, match="no column named 'ee'"):
        correlation_figure(df, x="a", y="b", x_se="ee")
    many = pd.concat([df.assign(g=i) for i in range(41)])
    with pytest.raises(UsageError, match="41 panels"):
        correlation_figure(many, x="a", y="b", group="g")
    two = pd.concat([df.assign(g=i) for i in range(2)])
    with pytest.raises(UsageError, match="no panel '1'"):
        correlation_figure(
            two, x="a", y="b", group="g", results=correlate(two[two["g"] == 0], x="a", y="b", group="g")
        )


def test_no_window_system_is_touched():
    code = (
        "import sys, kdstats.figures.correlation, kdstats.figures.style\n"
        "print('matplotlib.pyplot' in sys.modules, 'torch' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("suffix", [".png", ".svg", ".pdf"])
def test_a_link_is_replaced_and_a_failure_leaves_what_was_there(tmp_path, monkeypatch, suffix):
    figure, _ = correlation_figure(small(), x="a", y="b")
    other = tmp_path / "precious"
    other.write_text("keep me")
    target = tmp_path / f"figure{suffix}"
    target.symlink_to(other)
    assert save(figure, target) == target
    assert not target.is_symlink()
    assert other.read_text() == "keep me"
    # The bytes are those that matplotlib writes to a file of that name.
    straight, wanted = tmp_path / f"straight{suffix}", target.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr("kdstats.figures.style.write_bytes_atomic", lambda path, data: None)
        save(figure, straight)
        assert not straight.exists()
    assert wanted == written_by_matplotlib(figure, straight)

    def cut(figure, file, **_):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", cut)
    with pytest.raises(OSError, match="No space"):
        save(figure, target)
    assert target.read_bytes() == wanted
    assert {path.name for path in tmp_path.iterdir()} == {"precious", target.name, straight.name}


def written_by_matplotlib(figure, path):
    software = f"kdstats {__version__}"
    metadata = {
        ".png": {"Software": software},
        ".pdf": {"Creator": software, "CreationDate": None},
        ".svg": {"Creator": [software], "Date": None},
    }
    with style():
        figure.savefig(path, metadata=metadata[path.suffix])
    return path.read_bytes()


def test_saving_draws_once_whatever_the_users_settings():
    drawn = []
    with mpl.rc_context({"figure.autolayout": True, "figure.constrained_layout.use": True}):
        figure, _ = correlation_figure(small(), x="a", y="b")
    places = [ax.get_position().bounds for ax in figure.axes]
    assert figure.get_layout_engine() is None
    figure.draw = lambda renderer, draw=figure.draw: drawn.append(1) or draw(renderer)
    with style():
        figure.savefig(io.BytesIO(), format="svg")
    assert len(drawn) == 1
    assert [ax.get_position().bounds for ax in figure.axes] == places
    plain_figure, _ = correlation_figure(small(), x="a", y="b")
    assert [ax.get_position().bounds for ax in plain_figure.axes] == places
