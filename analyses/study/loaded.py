"""A study's directory as one frozen, checked object: the door of this room."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from analyses.study.card import Card, networks_of, read_card
from analyses.study.measured import Document, Measured, of_pair, read_documents
from analyses.study.shape import LARGEST, MOST_EPOCHS
from analyses.words import records
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.records.paths import StudyPaths
from kdstats.records.scanner import read_runs, read_study
from kdstats.records.schema import TABLES, check

_POSITIVE = (0.0, LARGEST)
_BOUNDS = {
    "acc": (0.0, 1.0),
    **dict.fromkeys(("t_stddev", "t_stddev_se", "t_stddev_low", "t_stddev_high"), _POSITIVE),
    **dict.fromkeys(("seconds", "seeds", "excluded"), _POSITIVE),
    **dict.fromkeys(("epochs", "epoch"), (0.0, MOST_EPOCHS)),
}
RELATIVE = 1e-6  # means may be formed in another order of summation, or in float32


@dataclass(frozen=True, slots=True, eq=False)
class Study:
    """A study on disk.

    Attributes:
        paths: Its files.
        card: What was asked for; its pairs as in the tables.
        runs: Table ``runs``, excluded ones too, with the column ``pair``: ``teacher/student``, and in a study of several
            variants ``teacher/student [variant]``, so that nothing is ever averaged or ranked across them.
        study: Table ``study``, with the column ``pair``; rows without an outcome included.
        documents: Teacher → its teacher-only measurements.
        seed: Seed of everything that resamples in a report.
        trusted: Whether networks that the study names as code or by an address may be loaded, and files outside of it
            that name classes read.
    """

    paths: StudyPaths
    card: Card
    runs: pd.DataFrame
    study: pd.DataFrame
    documents: Mapping[str, tuple[Document, ...]]
    seed: int
    trusted: bool = False

    @property
    def pairs(self) -> tuple[str, ...]:
        """Pairs with at least one outcome, in the card's order."""
        have = set(self.outcomes["pair"])
        return tuple(pair for pair in self.card.pairs if pair in have)

    @property
    def used(self) -> pd.DataFrame:
        """The runs behind every number: those not excluded."""
        return self.runs[~self.runs["excluded"]].reset_index(drop=True)

    @property
    def outcomes(self) -> pd.DataFrame:
        """The rows of ``study`` that have a test loss."""
        return self.study[self.study["test_loss"].notna()].reset_index(drop=True)

    def points(self, pair: str) -> pd.DataFrame:
        """Rows of one pair that have both a T. stddev and a test loss."""
        rows = self.outcomes
        return rows[(rows["pair"] == pair) & rows["t_stddev"].notna()].reset_index(drop=True)

    def measured(self, pair: str) -> dict[str, Measured]:
        """Scheme → teacher-only measurement of a pair's teacher."""
        teacher, student = networks_of(pair).split("/")
        return of_pair(self.documents.get(teacher, ()), student)

    def rng(self, purpose: str) -> np.random.Generator:
        """A generator that depends on seed and purpose only."""
        return np.random.default_rng([self.seed, zlib.crc32(purpose.encode())])

    def seed_for(self, purpose: str) -> int:
        """A seed that depends on the study's seed and the purpose only, for what takes a number."""
        return zlib.crc32(f"{self.seed} {purpose}".encode())

    @property
    def complete(self) -> bool:
        """Whether every planned run is there and used."""
        return self.card.done >= self.card.planned and not self.card.failed and not len(self.missing)

    @property
    def missing(self) -> pd.DataFrame:
        """Asked for, and neither finished nor reported as failed: ``pair, scheme, seed``."""
        have = set(zip(self.runs["pair"], self.runs["scheme"], self.runs["seed"], strict=True))
        have |= {(run.pair, run.scheme, run.seed) for run in self.card.failed}
        rows = [asked for asked in self.card.asked() if asked not in have]
        return pd.DataFrame(rows, columns=["pair", "scheme", "seed"])


def load_study(root: str | Path, *, seed: int, trusted: bool = False) -> Study:
    """Reads and checks a study's directory.

    Args:
        root: The directory that ``python -m runners.study run`` wrote.
        seed: Seed of everything that resamples in a report.
        trusted: See :class:`Study`; for studies of one's own.

    Raises:
        MissingError: Not a study: files or columns are missing, or a file is damaged.
        CheckError: The tables contradict each other (last and best epochs mixed, a run counted twice, unlike definitions
            of T. stddev), or hold numbers that cannot be (an infinite loss, an accuracy above 1).
        UsageError: No page can name the folder.
    """
    paths = StudyPaths(Path(root))
    _check_name(paths.root)
    _check_files(paths)
    card = read_card(paths.root / "study.json")
    runs, study = _with_pair(read_runs(paths)), _with_pair(read_study(paths))
    check("runs", runs.columns)
    check("study", study.columns)
    _check_runs(runs, paths)
    _check_numbers(runs[~runs["excluded"]], "runs", paths.runs)
    _check_numbers(study, "study", paths.study)
    _check_selection(runs[~runs["excluded"]], study, paths)
    _check_definitions(study, paths)
    strangers = sorted(set(runs["pair"]) - set(card.pairs))
    if strangers:
        raise CheckError(f"{paths.runs} has pair {strangers[0]!r}, which study.json does not name")
    return Study(paths, card, runs, study, read_documents(paths, card.teachers), seed, trusted)


def _check_name(root: Path) -> None:
    try:
        str(root).encode()
    except UnicodeEncodeError:
        raise UsageError(
            f"the name of the folder {str(root)!r} is not UTF-8, so no page can name it; rename it"
        ) from None


def _check_files(paths: StudyPaths) -> None:
    hint = "`python -m runners.study run STUDY.toml --out DIR` makes one"
    if not paths.root.is_dir():
        raise MissingError(f"no folder {str(paths.root)!r}; {hint}")
    wanted = (paths.root / "study.json", paths.runs, paths.study)
    absent = [path.name for path in wanted if not path.is_file()]
    if absent:
        raise MissingError(
            f"{str(paths.root)!r} is not a finished study: {', '.join(absent)} missing; {hint}"
        )


def _with_pair(frame: pd.DataFrame) -> pd.DataFrame:
    pair = frame["teacher"].astype(str) + "/" + frame["student"].astype(str)
    if "variant" in frame and frame["variant"].notna().any():
        pair = pair + " [" + frame["variant"].astype(str) + "]"
    return frame.assign(pair=pair)


def _check_runs(runs: pd.DataFrame, paths: StudyPaths) -> None:
    used = runs[~runs["excluded"]]
    twice = used[used.duplicated(["pair", "scheme", "seed"])]
    if len(twice):
        row = twice.iloc[0]
        raise CheckError(
            f"{paths.runs} counts a run twice: {row['pair']}, {row['scheme']}, seed {row['seed']}"
        )
    bad = used[~np.isfinite(used[["test_loss_last", "acc_last"]].to_numpy(dtype=float)).all(axis=1)]
    if len(bad):
        row = bad.iloc[0]
        raise CheckError(
            f"{paths.runs}: {row['pair']}, {row['scheme']}, seed {row['seed']} has a test loss or "
            "accuracy that is "
            "not finite and is not marked as excluded"
        )


def _check_numbers(frame: pd.DataFrame, table: str, path: Path) -> None:
    """Refuses what no measurement gives; NaN stands for what was not measured."""
    for name in TABLES[table].names:
        if name not in frame or TABLES[table][name].dtype not in ("float64", "int32"):
            continue
        values = frame[name].to_numpy(dtype=float, na_value=np.nan)
        least, most = _BOUNDS.get(name.removesuffix("_last").removesuffix("_best"), (-LARGEST, LARGEST))
        bad = (values < least) | (values > most)
        if bad.any():
            row = frame.iloc[int(bad.argmax())]
            raise CheckError(
                f"{path}: {name} is {values[bad][0]:g} for {row['pair']}, {row['scheme']}; it lies from {least:g} to "
                f"{most:g}. Correct it, or have the study write its tables anew"
            )


def _check_selection(used: pd.DataFrame, study: pd.DataFrame, paths: StudyPaths) -> None:
    """The outcome of ``study`` must be the mean over the used runs of the *last* epoch, everywhere."""
    keys = ["pair", "scheme"]
    if study.duplicated(keys).any():
        again = study[study.duplicated(keys)].iloc[0]
        raise CheckError(f"{paths.study} has two rows for {again['pair']}, {again['scheme']}")
    means = used.groupby(keys)[["test_loss_last", "test_loss_best"]].mean()
    for row in records(study):
        key, said = (row["pair"], row["scheme"]), row["test_loss"]
        if key not in means.index:
            if not np.isnan(said):
                raise CheckError(
                    f"{paths.study} has a test loss for {key[0]}, {key[1]}, of which there are no runs"
                )
            continue
        last, best = (float(value) for value in means.loc[key])
        if np.isclose(said, last, rtol=RELATIVE, atol=0):
            continue
        if np.isclose(said, best, rtol=RELATIVE, atol=0):
            raise CheckError(
                f"{paths.study}: the test loss of {key[0]}, {key[1]} is that of the best epoch, "
                "others are of the "
                "last; the two are never mixed in one table"
            )
        raise CheckError(
            f"{paths.study} says test loss {said:.6g} for {key[0]}, {key[1]}; the mean over "
            f"{paths.runs.name} is "
            f"{last:.6g}"
        )


def _check_definitions(study: pd.DataFrame, paths: StudyPaths) -> None:
    if "t_stddev_definition" not in study:
        return
    kinds = sorted(set(study["t_stddev_definition"].dropna()) - {""})
    if len(kinds) > 1:
        raise CheckError(f"{paths.study} mixes definitions of T. stddev: {kinds[0]} and {kinds[1]}")
