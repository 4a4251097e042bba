"""Every path of a run and of a study is a property of one class here; nowhere else is a path put together.

``<study>/runs/<teacher>__<student>/<scheme>/seed=<k>/<digest8>/…`` — names become folder names by a
reversible escape: letters, digits and ``- . + @ , =`` stand for themselves, ``_`` too unless it could be
taken for the ``__`` between teacher and student, anything else becomes ``~`` and two hexadecimal digits per
UTF-8 byte. So ``pick(cutmix)@v2+flip`` lies in ``pick~28cutmix~29@v2+flip``, which needs no quoting in a
shell or a URL.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from kdstats.errors import UsageError

_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.+@,=")
_PART = re.compile(r"epoch=(\d{4,})\.parquet")
_DIGEST = re.compile(r"[0-9a-f]{8,128}")
_SEED = re.compile(r"seed=(-?(?:0|[1-9]\d*))")
_NAME_MAX = 250  # bytes; 255 is the limit of every common file system, and a suffix may be added


def _refuse(name: str) -> str | None:
    if not name:
        return "is empty"
    if any(ord(char) < 32 or ord(char) == 127 for char in name):
        return "holds a newline, NUL or other control character"
    if "/" in name or "\\" in name:
        return "holds a path separator"
    if ".." in name:
        return "holds '..'"
    if any(0xD800 <= ord(char) <= 0xDFFF for char in name):
        return "is not valid Unicode"
    return None


def encode_name(name: str, kind: str = "name") -> str:
    """A folder name for ``name``, read back by :func:`decode_name`.

    Raises:
        UsageError: ``name`` is empty, holds a separator, ``..`` or a control character, or is too long.
    """
    return _encoded(name, kind)


# A study asks for few names many thousand times; a refusal is not kept.
@lru_cache(maxsize=4096)
def _encoded(name: str, kind: str) -> str:
    wrong = _refuse(name)
    if wrong:
        raise UsageError(
            f"{kind} {name!r} {wrong}; it names a folder, so use letters, digits and _ - . + @ ( )."
        )
    out: list[str] = []
    for i, char in enumerate(name):
        at_edge = i in (0, len(name) - 1)
        plain = char in _PLAIN and not (char == "." and at_edge)  # no hidden folders, no trailing dot
        # An underscore at an edge or after another one could merge with the separator of the pair.
        plain = plain or (char == "_" and not at_edge and out[-1] != "_")
        out.append(char if plain else "".join(f"~{byte:02x}" for byte in char.encode()))
    folder = "".join(out)
    if len(folder) > _NAME_MAX:
        raise UsageError(
            f"{kind} {name[:40]!r}… is too long for a folder name ({len(folder)} > {_NAME_MAX} bytes)."
        )
    return folder


def decode_name(folder: str, kind: str = "name") -> str:
    """The name that :func:`encode_name` turned into ``folder``; raises ``UsageError`` for any other text."""
    return _decoded(folder, kind)


@lru_cache(maxsize=4096)
def _decoded(folder: str, kind: str) -> str:
    try:
        raw = re.sub(rb"~([0-9a-f]{2})", lambda m: bytes([int(m[1], 16)]), folder.encode())
        name = raw.decode()
        if encode_name(name, kind) == folder:  # one name, one folder: other spellings are foreign
            return name
    except (UnicodeError, UsageError):
        pass
    raise UsageError(f"folder {folder!r} is no {kind} written by kdstats.")


@dataclass(frozen=True, slots=True)
class RunParts:
    """What the path of a run says: the identity of the run.

    Attributes:
        study: The study's directory.
        teacher: Name of the teacher.
        student: Name of the student.
        scheme: Name of the augmentation scheme.
        seed: Seed of the run.
        digest: Digest of the resolved recipe in hexadecimal; cut to the 8 digits that the path holds.
    """

    study: Path
    teacher: str
    student: str
    scheme: str
    seed: int
    digest: str

    def __post_init__(self) -> None:
        for kind, name in (("teacher", self.teacher), ("student", self.student), ("scheme", self.scheme)):
            encode_name(name, kind)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int):
            raise UsageError(f"seed {self.seed!r} is not an integer.")
        if not isinstance(self.digest, str) or not _DIGEST.fullmatch(self.digest):
            raise UsageError(f"digest {self.digest!r} is not 8 or more lower-case hexadecimal digits.")
        object.__setattr__(self, "study", local(self.study))
        object.__setattr__(self, "digest", self.digest[:8])

    @property
    def pair(self) -> str:
        """Folder name of teacher and student."""
        return f"{encode_name(self.teacher, 'teacher')}__{encode_name(self.student, 'student')}"

    @property
    def root(self) -> Path:
        """The run's directory."""
        scheme = encode_name(self.scheme, "scheme")
        return self.study.joinpath("runs", self.pair, scheme, f"seed={self.seed}", self.digest)


def local(path: str | Path) -> Path:
    """``path`` as a local path; a URL, which would become a folder named ``s3:``, raises ``UsageError``."""
    if isinstance(path, str) and re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", path):
        raise UsageError(f"{path!r} is a URL; records are written to and read from local paths.")
    if "\0" in str(path):
        raise UsageError(f"path {str(path)!r} holds NUL.")
    return path if isinstance(path, Path) else Path(path)


def parse(path: str | Path) -> RunParts:
    """The parts of a run's directory, or of any file in it; the inverse of :attr:`RunParts.root`.

    Raises:
        UsageError: The path does not have the layout of a run.
    """
    path = local(path)
    pieces = path.parts
    for at in range(len(pieces) - 5, -1, -1):
        if pieces[at] != "runs":
            continue
        pair, scheme, seed, digest = pieces[at + 1 : at + 5]
        found = _SEED.fullmatch(seed)
        sides = pair.split("__")
        if not found or len(sides) != 2 or not _DIGEST.fullmatch(digest) or len(digest) != 8:
            continue
        teacher, student = decode_name(sides[0], "teacher"), decode_name(sides[1], "student")
        name = decode_name(scheme, "scheme")
        return RunParts(Path(*pieces[:at]), teacher, student, name, int(found[1]), digest)
    raise UsageError(f"{path} is not <study>/runs/<teacher>__<student>/<scheme>/seed=<k>/<digest8>.")


@dataclass(frozen=True, slots=True)
class RunPaths:
    """The files of one run, wherever its directory lies (a user's own loop may record into any folder)."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", local(self.root))

    @classmethod
    def of(
        cls, study: str | Path, *, teacher: str, student: str, scheme: str, seed: int, digest: str
    ) -> RunPaths:
        """The run's paths in the layout of a study; raises ``UsageError`` for an unusable name."""
        return cls(RunParts(local(study), teacher, student, scheme, seed, digest).root)

    @property
    def run_json(self) -> Path:
        """What was asked for: identity, resolved recipe, environment."""
        return self.root / "run.json"

    @property
    def metrics(self) -> Path:
        """One JSON line per epoch."""
        return self.root / "metrics.jsonl"

    @property
    def distances(self) -> Path:
        """One JSON line per epoch on how far moving teachers are from the student; where there are such."""
        return self.root / "distances.jsonl"

    @property
    def held(self) -> Path:
        """Folder with the rows of an epoch that is still open, see :mod:`kdstats.records.held`."""
        return self.root / "held"

    @property
    def samples(self) -> Path:
        """Folder of the parts of table ``samples``."""
        return self.root / "samples"

    def sample_part(self, epoch: int) -> Path:
        """The ``samples`` of one epoch."""
        return self.samples / f"epoch={epoch:04d}.parquet"

    @property
    def pools(self) -> Path:
        """Table ``pools`` of the whole run, merged when recording ends."""
        return self.root / "pools.parquet"

    @property
    def pool_parts(self) -> Path:
        """Folder of the parts of table ``pools`` while the run is going on; absent afterwards."""
        return self.root / "pools"

    def pool_part(self, epoch: int) -> Path:
        """The ``pools`` rows of one epoch while the run is going on."""
        return self.pool_parts / f"epoch={epoch:04d}.parquet"

    @property
    def last(self) -> Path:
        """Weights after the last epoch."""
        return self.root / "last.safetensors"

    @property
    def best(self) -> Path:
        """Weights of the best epoch."""
        return self.root / "best.safetensors"

    @property
    def state(self) -> Path:
        """Everything needed to go on training."""
        return self.root / "state.pt"

    @property
    def log(self) -> Path:
        """The log as text, with the command line first."""
        return self.root / "log.txt"

    @property
    def done(self) -> Path:
        """Written last: hash, size and row count of every part."""
        return self.root / "done.json"


def epoch_parts(folder: Path) -> list[tuple[int, Path]]:
    """The parts in ``folder`` as ``(epoch, path)`` in order of epochs; temporary files are not among them."""
    return [(epoch, folder / name) for epoch, name in epoch_names(folder)]


def epoch_names(folder: str | Path) -> list[tuple[int, str]]:
    """As :func:`epoch_parts`, with names in place of paths: a look at thousands of runs makes no path of each."""
    try:
        names = os.listdir(folder)
    except OSError:
        if Path(folder).is_dir():
            raise
        return []
    found = ((_PART.fullmatch(name), name) for name in names)
    return sorted((int(match[1]), name) for match, name in found if match)


@dataclass(frozen=True, slots=True)
class StudyPaths:
    """The files of one study."""

    root: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "root", local(self.root))

    @property
    def study_toml(self) -> Path:
        """Copy of the study's file as it was when the study began."""
        return self.root / "study.toml"

    @property
    def plan(self) -> Path:
        """The planned runs with their cost."""
        return self.root / "plan.json"

    @property
    def t_stddev(self) -> Path:
        """Folder of the teacher-only measurements."""
        return self.root / "t_stddev"

    def t_stddev_json(self, teacher: str, scheme: str) -> Path:
        """The teacher-only measurement of one scheme."""
        return self.t_stddev / encode_name(teacher, "teacher") / f"{encode_name(scheme, 'scheme')}.json"

    @property
    def answers(self) -> Path:
        """Folder of teachers' answers that runs share while the study is trained; absent afterwards."""
        return self.root / ".answers"

    @property
    def run_root(self) -> Path:
        """Folder that holds all runs."""
        return self.root / "runs"

    def run(self, *, teacher: str, student: str, scheme: str, seed: int, digest: str) -> RunPaths:
        """The paths of one run of this study."""
        return RunPaths.of(
            self.root, teacher=teacher, student=student, scheme=scheme, seed=seed, digest=digest
        )

    def iter_runs(self) -> Iterator[RunPaths]:
        """All run directories on disk, in the order of their paths; other folders are passed over."""
        for path in sorted(self.run_root.glob("*/*/seed=*/*")):
            try:
                parse(path)
            except UsageError:
                continue
            if path.is_dir():
                yield RunPaths(path)

    @property
    def runs(self) -> Path:
        """Table ``runs``."""
        return self.root / "runs.parquet"

    @property
    def study(self) -> Path:
        """Table ``study``."""
        return self.root / "study.parquet"

    @property
    def report(self) -> Path:
        """Folder of the report."""
        return self.root / "report"

    @property
    def index_html(self) -> Path:
        """First page of the report."""
        return self.report / "index.html"
