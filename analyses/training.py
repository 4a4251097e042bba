"""Had the students settled when training stopped?

A scheme that only needs longer can rank last after few epochs; the curves show where that may be so.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from analyses.study import Study, used_folders
from analyses.study.logs import log_rows
from analyses.words import count, listed, number, sizes
from kdstats.figures.style import PAGE, marks, plain, style

QUESTION = "Had the students settled when training stopped?"
TAIL = 0.1  # the last tenth of the epochs is compared with the tenth before it
LEAST_EPOCHS = 20  # shorter runs have no tenths to compare


@dataclass(frozen=True, slots=True)
class TrainingFacts:
    """What the curves show, for their caption."""

    pairs: tuple[str, ...]
    schemes: int
    seeds: tuple[int, int]
    epochs: int

    def caption(self) -> str:
        """The caption, from the fields."""
        where = self.pairs[0] if len(self.pairs) == 1 else f"{len(self.pairs)} pairs"
        return (
            f"Student test loss over {count(self.epochs, 'epoch')} ({where}, "
            f"{count(self.schemes, 'scheme')}, "
            f"{sizes(self.seeds)} each). Line: mean over seeds; shade: from the lowest to the highest seed. "
            "Scale: that of the second half of training."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Training:
    """The result: ``curves`` has ``pair, scheme, seed, epoch, test_loss`` (nats); ``table``: schemes."""

    curves: pd.DataFrame
    table: pd.DataFrame
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, TrainingFacts] | None:
        """Mean test loss per epoch, a colour a scheme, a panel a pair; None when nothing was logged."""
        return None if self.curves.empty else _draw(self.curves)


def run(study: Study) -> Training:
    """Reads ``metrics.jsonl`` of every used run.

    Raises:
        MissingError: A log is broken.
    """
    rows = []
    for pair, scheme, seed, folder in used_folders(study):
        log = folder / "metrics.jsonl"
        if os.path.lexists(log):
            rows += [
                {"pair": pair, "scheme": scheme, "seed": seed, "epoch": epoch, "test_loss": loss}
                for epoch, loss in read_log(log)
            ]
    if not rows:
        return Training(pd.DataFrame(), pd.DataFrame(), ("No training curves are in the study.",))
    order = {scheme: at for at, scheme in enumerate(study.card.schemes)}
    curves = pd.DataFrame(rows)
    curves = curves.sort_values(
        "scheme", key=lambda names: names.map(order), kind="stable", ignore_index=True
    )
    table = _table(curves)
    return Training(curves, table, _findings(table))


def read_log(path: Path) -> list[tuple[int, float]]:
    """``(epoch, test loss)`` of one run; a repeated epoch (after a resume) counts once, the last time.

    A loss that was not finite is NaN: a run may recover from it, and its last epoch is checked with the tables.
    """
    found = log_rows(path, ("test_loss",), gaps=("test_loss",))
    return [(epoch, row["test_loss"]) for epoch, row in found.items()]


def _table(curves: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (pair, scheme), part in curves.groupby(["pair", "scheme"], sort=False):
        mean = part.groupby("epoch")["test_loss"].mean()
        epochs = len(mean)
        tail = max(1, round(TAIL * epochs))
        enough = epochs >= LEAST_EPOCHS
        late = float(mean.iloc[-tail:].mean() - mean.iloc[-2 * tail : -tail].mean()) if enough else math.nan
        rows.append(
            {
                "pair": pair,
                "scheme": scheme,
                "seeds": part["seed"].nunique(),
                "epochs": epochs,
                "lowest": float(mean.min()),
                "epoch_lowest": mean.idxmin(),
                "last": float(mean.iloc[-1]),
                "late_change": late,
            }
        )
    return pd.DataFrame(rows)


def _findings(table: pd.DataFrame) -> tuple[str, ...]:
    out = []
    for pair, rows in table.groupby("pair", sort=False):
        known = rows[rows["late_change"].notna()]
        if known.empty:
            epochs = int(rows["epochs"].max())
            out.append(f"{pair}: {count(epochs, 'epoch')} are too few to say whether training had settled.")
            continue
        falling = [str(r["scheme"]) for r in known.to_dict("records") if r["late_change"] < 0]
        low, high = float(known["late_change"].min()), float(known["late_change"].max())
        span = f"{number(low, 4)} to {number(high, 4)} nats"
        when = "from the second-last to the last tenth of the epochs"
        text = f"{pair}: {when} the mean test loss changes by {span}"
        if falling:
            names = f"{len(falling)} of {len(known)} schemes" if len(falling) > 3 else listed(falling)
            text += f"; it still falls for {names}"
        out.append(f"{text} (n = {sizes([int(n) for n in known['seeds']])} a scheme, no interval).")
    return tuple(out)


def _draw(curves: pd.DataFrame) -> tuple[Figure, TrainingFacts]:
    looks = marks(curves["scheme"])
    pairs = list(dict.fromkeys(curves["pair"]))
    columns = min(2, len(pairs))
    rows = -(-len(pairs) // columns)
    with style():
        figure = Figure(
            figsize=(PAGE * (0.62 if columns == 1 else 1), 2.5 * rows + 0.4), layout="constrained"
        )
        for at, pair in enumerate(pairs):
            ax = figure.add_subplot(rows, columns, at + 1)
            here = curves[curves["pair"] == pair]
            for scheme, part in here.groupby("scheme", sort=False):
                look = looks[scheme]
                band = part.groupby("epoch")["test_loss"].agg(["mean", "min", "max"])
                ax.fill_between(
                    band.index, band["min"], band["max"], color=look.color, alpha=0.13, linewidth=0
                )
                every = max(1, len(band) // 8)
                ax.plot(
                    band.index,
                    band["mean"],
                    color=look.color,
                    marker=look.marker,
                    markevery=every,
                    markersize=3,
                    label=plain(look.text),
                )
            # Early epochs would squeeze the end, which is what the question is about, into a line.
            late = here[here["epoch"] >= here["epoch"].median()]["test_loss"]
            pad = 0.06 * float(late.max() - late.min() or 1)
            ax.set_ylim(float(late.min()) - pad, float(late.max()) + pad)
            ax.set(xlabel="epoch", ylabel="student test loss (nats)")
            ax.xaxis.set_major_locator(MaxNLocator(integer=True))
            if len(pairs) > 1:
                ax.set_title(plain(str(pair)))
        handles, labels = figure.axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3 if columns == 1 else 5)
    seeds = curves.groupby(["pair", "scheme"])["seed"].nunique()
    return figure, TrainingFacts(
        tuple(map(str, pairs)),
        int(curves["scheme"].nunique()),
        (int(seeds.min()), int(seeds.max())),
        int(curves["epoch"].nunique()),
    )
