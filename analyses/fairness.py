"""Were the schemes compared on equal terms?"""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from analyses.study import Study
from analyses.words import count, listed

SELF = "self"  # in the teacher's place of a pair
QUESTION = "Were the schemes compared on equal terms?"


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of a fair comparison: ``ok`` is None where the study's files do not tell."""

    ok: bool | None
    text: str


@dataclass(frozen=True, slots=True)
class Fairness:
    """The result: every check, and a sentence on those that fail."""

    checks: tuple[Check, ...]
    findings: tuple[str, ...]

    @property
    def fair(self) -> bool:
        """Whether no check fails; an open one does not fail."""
        return all(check.ok is not False for check in self.checks)


def run(study: Study) -> Fairness:
    """Compares recipe, epochs, seeds, teacher, threads and definition over all used runs."""
    checks = [check for pair in study.pairs for check in _pair(study, pair)]
    checks += [_teachers(study), _definition(study), *_threads(study), *_variants(study), *_moving(study)]
    bad = [check.text for check in checks if check.ok is False]
    if bad:
        findings = (f"Not on equal terms: {'; '.join(bad)}.",)
    else:
        findings = (
            f"On equal terms in {sum(c.ok is True for c in checks)} of {len(checks)} checks, none failed.",
        )
    return Fairness(tuple(checks), findings)


def _pair(study: Study, pair: str) -> list[Check]:
    runs = study.used[study.used["pair"] == pair]
    recipes, epochs = runs["recipe_digest"].nunique(), sorted(set(runs["epochs"].dropna().astype(int)))
    of = f"{pair}: "
    recipe = Check(
        True, f"{of}one recipe ({str(runs['recipe_digest'].iloc[0])[:8]}) for {count(len(runs), 'run')}"
    )
    if recipes > 1:
        recipe = Check(False, f"{of}{recipes} different recipes among {count(len(runs), 'run')}")
    if len(epochs) == 1:
        length = Check(True, f"{of}{count(epochs[0], 'epoch')} in every run")
    else:
        length = Check(False, f"{of}runs of {listed([str(e) for e in epochs])} epochs")
    return [recipe, length, _seeds(of, runs)]


def _seeds(of: str, runs: pd.DataFrame) -> Check:
    by = {
        str(scheme): frozenset(part["seed"].astype(int))
        for scheme, part in runs.groupby("scheme", sort=False)
    }
    common = frozenset.union(*by.values())
    short = [f"{scheme} lacks {_seed_list(common - have)}" for scheme, have in by.items() if have != common]
    if short:
        return Check(False, f"{of}not all schemes have the same seeds: {'; '.join(short)}")
    return Check(True, f"{of}the same seeds for every scheme ({', '.join(map(str, sorted(common)))})")


def _seed_list(seeds: frozenset[int]) -> str:
    return f"seed{'' if len(seeds) == 1 else 's'} {', '.join(map(str, sorted(seeds)))}"


def _teachers(study: Study) -> Check:
    hashes = {name: str(card.get("sha256") or "") for name, card in study.card.teachers.items()}
    if not hashes or not all(hashes.values()):
        return Check(None, "the card gives no hash of the teacher")
    if not any(study.documents.values()):
        return Check(None, "no teacher-only measurement shows which teacher was measured")
    named = listed([f"{name} (sha256 {sha[:8]}…)" for name, sha in hashes.items()])
    return Check(True, f"the teacher that was measured is the one of the study: {named}")


def _threads(study: Study) -> list[Check]:
    """Runs of unlike threads differ in the last bits of their sums; nothing is said of tables without the column."""
    if "threads" not in study.used or study.used["threads"].isna().all():
        return []
    found = sorted(set(study.used["threads"].dropna().astype(int)))
    if len(found) > 1:
        return [Check(False, f"runs of {listed([str(n) for n in found])} threads")]
    return [Check(True, f"{count(found[0], 'thread')} in every run")]


def _moving(study: Study) -> list[Check]:
    """Pairs whose teachers are averages of their student."""
    moving = [pair for pair in study.pairs if pair.startswith(f"{SELF}/")]
    if not moving:
        return []
    return [
        Check(None, f"{listed(moving)}: teachers follow the student, so there is no T. stddev to compare")
    ]


def _variants(study: Study) -> list[Check]:
    if not study.card.variants:
        return []
    named = listed([pair for pair in study.card.pairs if pair in study.pairs])
    return [Check(True, f"schemes are compared within a variant only, none is averaged over: {named}")]


def _definition(study: Study) -> Check:
    if not any(study.documents.values()):
        return Check(None, "no teacher-only measurement is in the study")
    n = sum(len(documents) for documents in study.documents.values())
    return Check(True, f"one definition of T. stddev in {count(n, 'document')}")
