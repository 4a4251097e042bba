"""Reading records back in bounded memory, with every damaged, foreign or missing part named.

Rows come as batches of NumPy arrays, part by part in order of epochs, rows in the order of recording. In
arrays, ``view`` holds codes (0 original, 1 augmented), a missing partner is -1, a missing ``lam`` or
``s_loss_kd`` is NaN, and float16 records come back as float32, so that sums neither overflow nor lose digits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kdstats.errors import CheckError, MissingError, UsageError, unknown
from kdstats.records import schema as sc
from kdstats.records.arrow import Header, naming, open_part
from kdstats.records.frame import read_frame
from kdstats.records.paths import RunPaths, StudyPaths, epoch_parts
from kdstats.records.sink import SUM_TOLERANCE
from kdstats.records.writer import GROUP_ROWS, recorded_pools, verify_done

if TYPE_CHECKING:
    import pandas as pd

RunDirs = str | Path | RunPaths | Iterable[str | Path | RunPaths]
_IDENTITY = ("teacher", "student", "scheme", "seed")


class Batch(dict[str, NDArray[Any]]):
    """Rows of one part: column name → array, all of length :attr:`num_rows`.

    Attributes:
        run: The run's directory.
        part: The Parquet file.
        epoch: Epoch of the part.
        last: No rows of this part follow.
        num_rows: Number of rows.
    """

    __slots__ = ("epoch", "last", "num_rows", "part", "run")

    def __init__(
        self, columns: dict[str, NDArray[Any]], run: Path, part: Path, epoch: int, last: bool
    ) -> None:
        super().__init__(columns)
        self.run, self.part, self.epoch, self.last = run, part, epoch, last
        self.num_rows = len(next(iter(columns.values())))


def scan(
    run_dirs: RunDirs,
    columns: Iterable[str] | None = None,
    *,
    views: str | Iterable[str] | None = None,
    epochs: Collection[int] | None = None,
    batch_rows: int = GROUP_ROWS,
    incomplete: str = "refuse",
    verify: str = "size",
) -> Iterator[Batch]:
    """Stream the ``samples`` of runs.

    The runs are checked when ``scan`` is called, each part when it is reached; page checksums are verified on
    reading. Memory holds about one row group of the asked columns, however many rows there are.

    Args:
        run_dirs: One run directory or several.
        columns: Columns wanted, in the order wanted; all when ``None``.
        views: Only rows of these views.
        epochs: Only these epochs; each run must have recorded them.
        batch_rows: Most rows in a batch.
        incomplete: ``refuse`` runs without ``done.json``, or ``allow`` them with the epochs they have.
        verify: Before reading, compare parts with ``done.json`` by ``size`` or by ``sha256`` (reads all
            bytes).

    Yields:
        Batches of rows; batches without a row of the wanted views are passed over.

    Raises:
        UsageError: Unknown column, view or option, or the same run twice.
        MissingError: A run is absent or incomplete; a part is missing, truncated, damaged or foreign.
    """
    wanted = sc.select("samples", columns)
    codes = _view_codes(views)
    if batch_rows < 1:
        raise UsageError(f"batch_rows is {batch_rows}; it must be 1 or more.")
    runs = _runs(run_dirs)
    plan = []
    for run in runs:
        _complete(run, incomplete, verify)
        parts = epoch_parts(run.samples)
        if not parts:
            raise MissingError(f"{run.root} holds no samples (looked for {run.samples}/epoch=….parquet).")
        plan.append((run, _pick(run, parts, epochs)))
    headers = [_header(parts[0][1]) for _, parts in plan]
    _refuse_duplicates(runs, headers)
    return _stream(plan, headers, wanted, codes, batch_rows)


def _stream(
    plan: list[tuple[RunPaths, list[tuple[int, Path]]]],
    headers: list[Header],
    wanted: tuple[str, ...],
    codes: frozenset[int] | None,
    batch_rows: int,
) -> Iterator[Batch]:
    needed = list(wanted) + (["view"] if codes is not None and "view" not in wanted else [])
    for (run, parts), first in zip(plan, headers, strict=True):
        for epoch, path in parts:
            with open_part(path, "samples") as (file, header):
                if header.digest != first.digest:
                    raise MissingError(
                        f"{path} is of another run (digest {header.digest!r}) than its folder."
                    )
                left = int(file.metadata.num_rows)
                for batch in _batches(file, path, needed, batch_rows):
                    left -= batch.num_rows
                    arrays = {name: _to_numpy(batch.column(name), name, path) for name in needed}
                    if codes is not None and len(codes) < len(sc.VIEWS):
                        keep = np.isin(arrays["view"], list(codes))
                        if not keep.any():
                            continue
                        if not keep.all():
                            arrays = {name: array[keep] for name, array in arrays.items()}
                    yield Batch({name: arrays[name] for name in wanted}, run.root, path, epoch, left <= 0)


def _batches(file: Any, path: Path, columns: list[str], batch_rows: int) -> Iterator[Any]:
    with naming(path):
        yield from file.iter_batches(batch_rows, columns=columns)


def _to_numpy(array: Any, name: str, path: Path) -> NDArray[Any]:
    if pa.types.is_dictionary(array.type):
        views = array.dictionary.to_pylist()
        for view in views:
            if view not in sc.VIEWS:
                raise MissingError(f"{path}: view {view!r} is none of {', '.join(sc.VIEWS)}.")
        codes: NDArray[Any] = array.indices.to_numpy(zero_copy_only=False)
        if tuple(views) != sc.VIEWS[: len(views)]:  # another writer, or the views in another order
            codes = np.array([sc.VIEWS.index(view) for view in views], np.int8)[codes]
        return codes.astype(np.int8, copy=False)
    if pa.types.is_fixed_size_list(array.type):
        flat: NDArray[Any] = array.flatten().to_numpy(zero_copy_only=False)
        return flat.reshape(len(array), array.type.list_size)
    if array.null_count and pa.types.is_integer(array.type):
        array = array.fill_null(sc.NULL_ID)
    values: NDArray[Any] = array.to_numpy(zero_copy_only=False)
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _view_codes(views: str | Iterable[str] | None) -> frozenset[int] | None:
    if views is None:
        return None
    codes = frozenset(sc.view_code(view) for view in ([views] if isinstance(views, str) else views))
    if not codes:
        raise UsageError(f"no views asked for; there are {', '.join(sc.VIEWS)}.")
    return codes


def _runs(run_dirs: RunDirs) -> list[RunPaths]:
    given = [run_dirs] if isinstance(run_dirs, str | Path | RunPaths) else list(run_dirs)
    runs = [run if isinstance(run, RunPaths) else RunPaths(Path(run)) for run in given]
    if not runs:
        raise UsageError("no run directory given.")
    seen: dict[Path, Path] = {}
    for run in runs:
        if not run.root.is_dir():
            raise MissingError(f"no run directory {run.root}.")
        real = run.root.resolve()
        if real in seen:
            raise UsageError(f"{run.root} is given twice (as {seen[real]} before).")
        seen[real] = run.root
    return runs


def _complete(run: RunPaths, incomplete: str, verify: str) -> None:
    if incomplete not in ("refuse", "allow"):
        raise unknown("value of incomplete", incomplete, ("refuse", "allow"))
    if verify not in ("size", "sha256"):
        raise unknown("value of verify", verify, ("size", "sha256"))
    if not run.done.exists():
        if incomplete == "allow":
            return
        raise MissingError(
            f"{run.root} is incomplete: it has no done.json. Run the same command again to finish it, or "
            'read what is there with incomplete="allow".'
        )
    problems = verify_done(run, quick=verify == "size")
    if problems:
        more = f" (and {len(problems) - 3} more)" if len(problems) > 3 else ""
        raise MissingError(f"{run.root} is not as its done.json says: {'; '.join(problems[:3])}{more}.")


def _pick(
    run: RunPaths, parts: list[tuple[int, Path]], epochs: Collection[int] | None
) -> list[tuple[int, Path]]:
    if epochs is None:
        return parts
    have = {epoch for epoch, _ in parts}
    absent = sorted(set(epochs) - have)
    if absent or not epochs:
        shown = ", ".join(map(str, absent[:8])) or "none asked for"
        raise MissingError(
            f"{run.root} has no record of epochs {shown}; it has {len(have)} from {min(have)} to {max(have)}."
        )
    return [(epoch, path) for epoch, path in parts if epoch in epochs]


def _header(path: Path) -> Header:
    with open_part(path, "samples") as (_, header):
        return header


def _refuse_duplicates(runs: list[RunPaths], headers: list[Header]) -> None:
    seen: dict[tuple[str, ...], RunPaths] = {}
    for run, header in zip(runs, headers, strict=True):
        identity = header.meta.get("identity", {})
        key = (header.digest, *(str(identity.get(name)) for name in _IDENTITY))
        if key in seen:
            said = ", ".join(f"{name} {identity[name]}" for name in _IDENTITY if name in identity)
            raise UsageError(
                f"{seen[key].root} and {run.root} are the same run ({said or 'no name'}, digest "
                f"{header.digest[:8]}): counting it twice would halve its standard errors for nothing."
            )
        seen[key] = run


def scan_pools(
    source: str | Path | RunPaths,
    *,
    views: str | Iterable[str] | None = None,
    epochs: Collection[int] | None = None,
    incomplete: str = "refuse",
) -> Iterator[dict[str, NDArray[Any]]]:
    """The rows of :func:`read_pools` in portions of at most 16,384, in bounded memory."""
    codes = _view_codes(views)
    if not isinstance(source, RunPaths) and Path(source).suffix == ".parquet":
        files = [Path(source)]
    else:
        run = _runs(source)[0]
        _complete(run, incomplete, "size")
        parts = recorded_pools(run)
        files = [path for _, path in parts] or [run.pools]
        if parts and run.pools.exists():
            raise MissingError(f"{run.root} was stopped while merging pools; run the same command again.")
    for path in files:
        with open_part(path, "pools") as (file, _):
            names = [name for name in file.schema_arrow.names if name in sc.POOLS.names]
            for batch in _batches(file, path, names, 16_384):
                arrays = {name: _to_numpy(batch.column(name), name, path) for name in names}
                off = np.abs(arrays["mean_prob"].sum(1, dtype=np.float64) - 1)
                if not (off <= SUM_TOLERANCE).all():
                    raise CheckError(f"{path}: a mean probability vector sums to 1 ± {np.max(off):.2g}.")
                keep = np.ones(batch.num_rows, bool)
                if codes is not None:
                    keep &= np.isin(arrays["view"], list(codes))
                if epochs is not None and "epoch" in arrays:
                    keep &= np.isin(arrays["epoch"], list(epochs))
                yield arrays if keep.all() else {name: array[keep] for name, array in arrays.items()}


def read_pools(
    source: str | Path | RunPaths,
    *,
    views: str | Iterable[str] | None = None,
    epochs: Collection[int] | None = None,
    incomplete: str = "refuse",
) -> dict[str, NDArray[Any]]:
    """The mean probability vectors of a run, one row per batch and view, in order of epochs.

    Args:
        source: A run directory, or a Parquet file of table ``pools``.
        views: Only rows of these views.
        epochs: Only rows of these epochs.
        incomplete: ``refuse`` runs without ``done.json``, or ``allow`` them with the epochs they have.

    Returns:
        The columns of the file: ``mean_prob`` [rows, C] and one [rows] array per other column.

    Raises:
        MissingError: The run is absent or incomplete, or a file is damaged or foreign.
        CheckError: A row does not sum to 1.
    """
    portions = list(scan_pools(source, views=views, epochs=epochs, incomplete=incomplete))
    if not portions:
        raise MissingError(
            f"{source.root if isinstance(source, RunPaths) else source}: its pools have no rows."
        )
    return {name: np.concatenate([portion[name] for portion in portions]) for name in portions[0]}


def read_runs(study: str | Path | StudyPaths) -> pd.DataFrame:
    """Table ``runs`` of a study's directory, or of a Parquet file; excluded runs are in it, marked.

    Raises:
        MissingError: The file is absent, damaged, foreign or too large, or lacks columns or holds others than it should.
    """
    return _read_frame(study, "runs")


def read_study(study: str | Path | StudyPaths) -> pd.DataFrame:
    """Table ``study`` of a study's directory, or of a Parquet file. Raises as :func:`read_runs`."""
    return _read_frame(study, "study")


def _read_frame(study: str | Path | StudyPaths, table_name: str) -> pd.DataFrame:
    if isinstance(study, StudyPaths) or Path(study).suffix != ".parquet":
        paths = study if isinstance(study, StudyPaths) else StudyPaths(Path(study))
        path = paths.runs if table_name == "runs" else paths.study
    else:
        path = Path(study)
    return read_frame(path, table_name)
