"""The options of ``kdstats correlate``, checked, and the command line that gives a result again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from kdstats.errors import UsageError, unknown
from kdstats.tables import check_format

SECTIONS = {
    "panels": "coefficients of every panel",
    "across": "over all panels: means, repeated measures, regression",
    "choice": "what choosing by x has been worth",
    "errors": "corrected for errors of measurement (--x-se, --y-se)",
    "given": "partial correlations (--given)",
    "without": "each coefficient without any one point",
    "mixed": "mixed model of all panels",
}
WAYS = ("mean", "keep")
"""What ``--repeats`` may be."""


@dataclass(frozen=True, slots=True)
class Request:
    """The options as given."""

    file: Path | None
    x: str | None
    y: str | None
    group: str | None
    label: str | None
    x_se: str | None
    y_se: str | None
    given: str | None
    cluster: str | None
    published: str | None
    fmt: str
    show: str | None
    plot: Path | None
    interval: str
    confidence: float
    choose: str
    better: str
    seed: int
    repeats: str = "mean"
    better_given: bool = False

    def check(self) -> None:
        """Refuses options that contradict each other, before anything is read or computed."""
        from kdstats.association.intervals import check_interval
        from kdstats.estimators.intervals import check_confidence

        check_format(self.fmt)
        if self.repeats not in WAYS:
            raise unknown("value of --repeats", self.repeats, WAYS)
        check_interval(self.interval)
        check_confidence(self.confidence)
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or more, got {self.seed}")
        if (self.file is None) == (self.published is None):
            what = "both FILE and --published are given" if self.file else "nothing to correlate"
            raise UsageError(f"{what}: name a table, or use --published wang2022")
        if self.published is not None:
            mine = {"--x": self.x, "--y": self.y, "--group": self.group, "--label": self.label}
            mine |= {"--x-se": self.x_se, "--y-se": self.y_se, "--given": self.given}
            given = [name for name, value in mine.items() if value is not None]
            if given:
                raise UsageError(f"{given[0]} belongs to a FILE; --published has its own columns")
        elif self.x is None or self.y is None:
            missing = " and ".join(n for n, v in (("--x", self.x), ("--y", self.y)) if v is None)
            raise UsageError(f"{missing} not given: name the columns of the predictor and the outcome")
        self._check_sections()
        if self.plot is not None:
            from kdstats.figures.style import check_path

            check_path(self.plot)

    def _check_sections(self) -> None:
        shown = self.sections()
        if self.fmt == "csv" and len(shown) > 1:
            raise UsageError(f"csv prints one section; --show names {len(shown)}")
        if self.fmt == "json" and self.show is not None:
            raise UsageError("json holds every section; leave --show out")
        if self.show == "all":
            return
        if "errors" in shown and self.published is None and self.x_se is None and self.y_se is None:
            raise UsageError("--show errors needs the standard errors: --x-se COL, --y-se COL")
        if "given" in shown and self.given is None:
            raise UsageError("--show given needs the columns to hold fixed: --given COLS")

    def sections(self) -> tuple[str, ...]:
        """Sections asked for by ``--show``, in order of printing; empty where it is not given."""
        if self.show is None:
            return ()
        if self.show == "all":
            return tuple(SECTIONS)
        names = [name.strip() for name in self.show.split(",") if name.strip()]
        if not names:
            raise UsageError("--show names no section")
        for name in names:
            if name not in SECTIONS:
                raise unknown("section", name, [*SECTIONS, "all"])
        return tuple(name for name in SECTIONS if name in names)

    def command(self) -> str:
        """The command line that gives this result again."""
        words = ["kdstats", "correlate"]
        if self.file is not None:
            words.append(str(self.file))
        pairs = {
            "--published": self.published,
            "--x": self.x,
            "--y": self.y,
            "--group": self.group,
            "--label": self.label,
            "--x-se": self.x_se,
            "--y-se": self.y_se,
            "--given": self.given,
            "--cluster": self.cluster,
            "--show": self.show,
            "--plot": self.plot,
        }
        words += [part for name, value in pairs.items() if value is not None for part in (name, str(value))]
        words += [
            "--interval",
            self.interval,
            "--confidence",
            f"{self.confidence:g}",
            "--choose",
            self.choose,
        ]
        words += ["--repeats", self.repeats] if self.file is not None else []
        words += ["--better", self.better, "--seed", str(self.seed), "--format", self.fmt]
        return shlex.join(words)
