"""Wang et al., NeurIPS 2022 (arXiv 2012.02909 v3): T. stddev against the student's test loss."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from importlib import resources

import pandas as pd

COEFFICIENTS = ("pearson", "spearman", "kendall")
DATASETS = {
    "cifar100": "CIFAR-100",
    "tinyimagenet": "Tiny ImageNet",
    "imagenet100": "ImageNet100",
    "imagenet": "ImageNet",
}


@dataclass(frozen=True, slots=True, eq=False)
class Wang2022:
    """The published study: ten panels (teacher/student pair on a data set) of nine schemes each.

    Source: the scatter figures and accuracy tables of Wang, Lohit, Jones and Fu, 'What Makes a "Good" Data
    Augmentation in Knowledge Distillation - A Statistical Perspective', NeurIPS 2022, and the vector figures
    of the authors' repository. Marker centres, rounded to six and four decimals, reproduce every coefficient
    and p-value printed in the ten panel titles, so the points are exact to the printed precision.

    Caveats: ``test_loss_std`` is *inferred* from marker areas (they are consistent with area proportional to
    the standard deviation over runs); it was never printed. The ImageNet panel is a single run, its ``std``
    is missing, and its correlation is not significant (r = 0.346, p = 36 %); it belongs in every summary.
    Five further pairs per data set are in the paper's tables but not among the recovered figures. The
    accuracy rows called CutMixPick use the KL criterion, not the entropy criteria of the points.

    Attributes:
        points: 90 rows: ``panel, dataset, teacher, student, scheme, t_stddev`` (probability), ``test_loss``
            and ``test_loss_std`` (nats; last epoch, mean and standard deviation over runs).
        titles: 10 rows: ``panel, dataset, teacher, student``, then for ``pearson, spearman, kendall`` the
            printed coefficient (4 decimals) and ``*_p_pct``, its p-value in percent (2 decimals).
        accuracy: Top-1 accuracy of the tables: ``panel, dataset, teacher, student, method, top1, std``
            (percent; 3 runs, ``std`` missing where none was printed).
        citation: One line for a caption.
    """

    points: pd.DataFrame
    titles: pd.DataFrame
    accuracy: pd.DataFrame
    citation: str = "Wang et al., NeurIPS 2022"

    def panel(self, name: str) -> pd.DataFrame:
        """The nine points of one panel, e.g. ``"cifar100 wrn_40_2/wrn_16_2"``, with a fresh index.

        Raises:
            UsageError: No panel of that name.
        """
        from kdstats.errors import unknown

        if name not in set(self.points["panel"]):
            raise unknown("published panel", name, self.points["panel"])
        return self.points[self.points["panel"] == name].reset_index(drop=True)

    def names(self, *, short: bool = False) -> dict[str, str]:
        """Printed names by panel, e.g. ``"CIFAR-100 vgg13/vgg8"``.

        Args:
            short: Leave the pair out where the data set has one panel only (``"ImageNet"``).
        """
        rows = self.titles.to_dict("records")
        sizes = Counter(str(row["dataset"]) for row in rows)
        out = {}
        for row in rows:
            dataset = str(row["dataset"])
            pair = "" if short and sizes[dataset] == 1 else f" {row['teacher']}/{row['student']}"
            out[str(row["panel"])] = DATASETS[dataset] + pair
        return out

    def unreproduced(self, results: pd.DataFrame) -> list[str]:
        """Printed numbers that ``results`` does not give, to the printed digits.

        Args:
            results: A frame of :func:`kdstats.correlate` over :attr:`points` with ``group="panel"``; columns
                ``panel, method, estimate, p_value``.

        Returns:
            One sentence for each of the 60 printed numbers (10 panels, 3 coefficients, each with a p-value)
            that differs; empty when all are reproduced.
        """
        got = {(row.panel, row.method): row for row in results.itertuples(index=False)}
        wrong: list[str] = []
        for title in self.titles.to_dict("records"):
            for method in COEFFICIENTS:
                row = got.get((title["panel"], method))
                pairs = (
                    ("coefficient", f"{title[method]:.4f}", None if row is None else f"{row.estimate:.4f}"),
                    (
                        "p-value",
                        f"{title[method + '_p_pct']:.2f} %",
                        None if row is None else f"{100 * float(str(row.p_value)):.2f} %",
                    ),
                )
                for what, printed, ours in pairs:
                    if printed != ours:
                        wrong.append(f"{title['panel']}: {method} {what} printed {printed}, here {ours}")
        return wrong


def load() -> Wang2022:
    """Reads the three tables that ship with the package."""
    points = _read("wang2022_points.csv").rename(
        columns={"student_test_loss": "test_loss", "student_test_loss_std": "test_loss_std"}
    )
    return Wang2022(
        points=points, titles=_read("wang2022_titles.csv"), accuracy=_read("wang2022_accuracy.csv")
    )


def _read(name: str) -> pd.DataFrame:
    with resources.files("kdstats.published").joinpath(name).open(encoding="utf-8") as file:
        frame = pd.read_csv(file)
    frame.insert(0, "panel", frame["dataset"] + " " + frame["teacher"] + "/" + frame["student"])
    return frame
