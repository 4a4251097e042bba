"""The options of ``kdstats estimate``, checked, and the command line that gives a result again."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

from kdstats.errors import UsageError, unknown
from kdstats.tables import check_format

BY = ("scheme", "run", "epoch")
COMPONENTS = ("anova", "reml", "none")


@dataclass(frozen=True, slots=True)
class Request:
    """The options as given."""

    runs: tuple[str, ...]
    by: str
    epochs: str | None
    components: str
    confidence: float
    fmt: str
    plot: Path | None

    def check(self) -> None:
        """Refuses options that make no sense, before anything is read."""
        from kdstats.estimators.intervals import check_confidence

        check_format(self.fmt)
        check_confidence(self.confidence)
        if self.by not in BY:
            raise unknown("value of --by", self.by, BY)
        if self.components not in COMPONENTS:
            raise unknown("value of --components", self.components, COMPONENTS)
        self.span()
        if self.plot is not None:
            from kdstats.figures.style import check_path

            check_path(self.plot)

    def span(self) -> tuple[int | None, int | None] | None:
        """First and last epoch asked for; None: the default."""
        if self.epochs is None:
            return (None, None) if self.by == "epoch" else None
        first, colon, last = self.epochs.strip().partition(":")
        try:
            ends = (int(first) if first else None, int(last) if last else None)
            if not colon:
                ends = (int(first), int(first))
        except ValueError:
            raise UsageError(
                f"--epochs {self.epochs!r} is no range; write A:B, for example 40:60, or : for all"
            ) from None
        if None not in ends and ends[0] > ends[1]:  # type: ignore[operator]
            raise UsageError(f"--epochs {self.epochs}: the first epoch lies after the last")
        return ends

    def command(self) -> str:
        """The command line that gives this result again."""
        words = ["kdstats", "estimate", *self.runs, "--by", self.by]
        words += ["--epochs", self.epochs] if self.epochs is not None else []
        words += [
            "--components",
            self.components,
            "--confidence",
            f"{self.confidence:g}",
            "--format",
            self.fmt,
        ]
        words += ["--plot", str(self.plot)] if self.plot is not None else []
        return shlex.join(words)
