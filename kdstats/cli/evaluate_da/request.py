"""What was asked of ``kdstats evaluate-da``, checked before anything is read."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path

from kdstats.errors import UsageError
from kdstats.tables import check_format


def parted(given: str) -> list[str]:
    """``a,b(x=1,y=2)`` as two names: a comma within parentheses parts parameters, not schemes.

    >>> parted("cutmix, pick(mixup,criterion=kl)")
    ['cutmix', 'pick(mixup,criterion=kl)']
    """
    names, depth = [""], 0
    for sign in given:
        depth += {"(": 1, ")": -1}.get(sign, 0)
        if sign == "," and depth == 0:
            names.append("")
        else:
            names[-1] += sign
    return [name.strip() for name in names]


@dataclass(frozen=True, slots=True)
class Request:
    """The options as given."""

    scheme: tuple[str, ...]
    all_schemes: bool
    dataset: str | None
    data: Path | None
    img_size: int | None
    classes: str | None
    per_class: int | None
    split: str
    teacher: str | None
    arch: str | None
    student: str | None
    student_arch: str | None
    normalise: str | None
    student_normalise: str | None
    protocol: str
    tol: float
    pools: int | None
    batch_size: int
    draws: str | None
    base: str | None
    device: str
    seed: int
    confidence: float
    out: Path | None
    fmt: str

    def check(self) -> None:
        """Refuses what can be seen to be wrong before anything heavy is loaded."""
        check_format(self.fmt)
        if self.all_schemes and self.scheme:
            raise UsageError("--scheme and --all are both given; name schemes or ask for all of them")
        if not self.all_schemes and not self.scheme:
            raise UsageError(
                "no scheme named; add --scheme cutmix (or cutmix,mixup) or --all. `kdstats schemes list` "
                "shows them"
            )
        if self.seed < 0:
            raise UsageError(f"--seed must be 0 or more, got {self.seed}")
        for flag, value, needs, other in (
            ("--student-arch", self.student_arch, self.student, "--student FILE"),
            ("--student-normalise", self.student_normalise, self.student, "--student FILE"),
            ("--arch", self.arch, self.teacher, "--teacher FILE"),
            ("--normalise", self.normalise, self.teacher, "--teacher FILE"),
        ):
            if value is not None and needs is None:
                raise UsageError(f"{flag} describes weights that were not named; add {other}")
        if self.data is not None and self.dataset is None and self.teacher is None:
            raise UsageError(
                "--data names a folder but not what is in it; add --dataset NAME, for example cifar100"
            )

    def found_dataset(self) -> str:
        """The data set to use; digits stand in only when neither data nor a teacher were named.

        Raises:
            UsageError: A teacher without a data set, neither named nor on its card.
        """
        if self.dataset is not None:
            return self.dataset
        if self.teacher is None:
            return "digits"
        from kdstats.teacher.card import TeacherCard
        from kdstats.teacher.sources import check_source, is_file_source

        check_source(self.teacher, self.arch)  # what cannot be had has its own, better message
        named = TeacherCard.beside(Path(self.teacher)).dataset if is_file_source(self.teacher) else None
        if named is None:
            raise UsageError(f"{self.teacher} does not say what it was trained on; add --dataset NAME")
        return named

    def settled(self) -> Request:
        """The request with the data set, image size and classes that it left to the teacher's card.

        Raises:
            UsageError: See :meth:`found_dataset`.
            MissingError: The teacher is missing, or its card cannot be used.
        """
        from kdstats.data import Selection, card
        from kdstats.teacher.sources import check_source, defaults_of

        dataset = card(self.found_dataset()).name
        if self.teacher is None:
            return replace(self, dataset=dataset)
        path = None if self.data is None else str(self.data)
        asked = Selection(dataset, path, self.img_size, self.classes, self.per_class)
        check_source(self.teacher, self.arch, "teacher", asked)
        size, classes = defaults_of(self.teacher, dataset)
        return replace(self, dataset=dataset, img_size=self.img_size or size, classes=self.classes or classes)

    def data_note(self, settled: Request) -> str:
        """Why these images, where the user did not say so; ``settled`` is what came of the request."""
        if self.dataset is None and self.teacher is None:
            return "embedded default; name your own with --dataset, --data and --teacher"
        flags = (("--img-size", "img_size"), ("--classes", "classes"))
        found = [flag for flag, name in flags if getattr(self, name) != getattr(settled, name)]
        taken = [f"{' and '.join(found)} as on the teacher's card"] if found else []
        return "; ".join([*(["named by the teacher's card"] if self.dataset is None else []), *taken])

    def command(self) -> str:
        """The command line that gives this result again, without --out and --format."""
        words = ["kdstats", "evaluate-da", *(["--all"] if self.all_schemes else [])]
        for name in self.scheme:
            words += ["--scheme", name]
        pairs = {
            "--dataset": self.dataset,
            "--data": self.data,
            "--img-size": self.img_size,
            "--classes": self.classes,
            "--per-class": self.per_class,
            "--split": self.split if self.split != "train" else None,
            "--teacher": self.teacher,
            "--arch": self.arch,
            "--student": self.student,
            "--student-arch": self.student_arch,
            "--normalise": self.normalise,
            "--student-normalise": self.student_normalise,
            "--protocol": self.protocol,
            "--tol": f"{self.tol:g}" if self.protocol == "efficient" else None,
            "--pools": self.pools,
            "--batch-size": self.batch_size,
            "--draws": self.draws,
            "--base": self.base,
            "--seed": self.seed,
            "--confidence": f"{self.confidence:g}",
        }
        words += [part for flag, value in pairs.items() if value is not None for part in (flag, str(value))]
        return shlex.join(words)
