"""The rows of an epoch that is still open, put on disk so that a run can go on from the middle of it.

Each call of :meth:`Recorder.hold` leaves two files here, with the rows since the one before; their names say which
steps. When the epoch ends they are joined with the rest, in order, into the parts that everybody reads. Readers never
look into this folder.
"""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

from kdstats.errors import MissingError
from kdstats.records.arrow import open_part
from kdstats.records.part import PartWriter
from kdstats.records.paths import RunPaths

_NAME = re.compile(r"epoch=(\d+)\.steps=(\d+)-(\d+)\.(samples|pools)\.parquet")
_KINDS = ("pools", "samples")  # in the order in which parts are committed


@dataclass(frozen=True, order=True, slots=True)
class Held:
    """The rows of steps ``first`` … ``stop`` − 1 of an epoch."""

    epoch: int
    first: int
    stop: int

    def path(self, folder: Path, kind: str) -> Path:
        """Its file of ``samples`` or ``pools``."""
        return folder / f"epoch={self.epoch:04d}.steps={self.first:08d}-{self.stop:08d}.{kind}.parquet"


def held(paths: RunPaths) -> list[Held]:
    """What is held, in order; a piece of which only one of the two files is there does not count."""
    folder = paths.held
    seen: dict[Held, int] = {}
    for file in folder.iterdir() if folder.is_dir() else ():
        if found := _NAME.fullmatch(file.name):
            piece = Held(int(found[1]), int(found[2]), int(found[3]))
            seen[piece] = seen.get(piece, 0) + 1
    return sorted(piece for piece, files in seen.items() if files == len(_KINDS))


def keep_before(paths: RunPaths, epoch: int, step: int) -> list[Held]:
    """Drops everything but the rows of ``epoch`` before ``step``, which must be there without a gap.

    Raises:
        MissingError: A piece is missing: the run cannot go on from ``step``.
    """
    if step == 0:
        drop(paths)
        return []
    kept = [piece for piece in held(paths) if piece.epoch == epoch and piece.stop <= step]
    at = 0
    for piece in kept:
        if piece.first != at:
            break
        at = piece.stop
    if at != step:
        raise MissingError(
            f"{paths.held} holds the steps before {at} of epoch {epoch}, the state goes on from step {step}; "
            "remove state.pt to start the run anew"
        )
    for piece in kept:
        for kind in _KINDS:
            try:
                with open_part(piece.path(paths.held, kind), kind):
                    pass
            except MissingError as error:
                raise MissingError(f"{error} Remove {paths.state} to start the run anew.") from None
    wanted = {piece.path(paths.held, kind) for piece in kept for kind in _KINDS}
    for file in paths.held.iterdir():
        if file not in wanted:
            file.unlink()
    return kept


def drop(paths: RunPaths) -> None:
    """Drops what is held: the epoch's state is on disk, or it begins anew."""
    shutil.rmtree(paths.held, ignore_errors=True)


def join(paths: RunPaths, pieces: list[Held]) -> None:
    """Writes the parts of the epoch of ``pieces`` from their rows; both parts appear or none.

    The pieces stay: until the state of the whole epoch is on disk, the one before it still points to them.
    """
    folder = paths.held
    epoch = pieces[0].epoch
    targets = {"pools": paths.pool_part(epoch), "samples": paths.sample_part(epoch)}
    writers: list[PartWriter] = []
    try:
        for kind in _KINDS:
            for number, piece in enumerate(pieces):
                with open_part(piece.path(folder, kind), kind) as (file, _):
                    if number == 0:
                        writers.append(PartWriter(targets[kind], file.schema_arrow))
                    for batch in file.iter_batches():
                        writers[-1].write(batch)
        for writer in writers:
            writer.finish()
        for writer in writers:
            writer.commit()
    except BaseException:
        for writer in writers:
            writer.abort()
        raise
