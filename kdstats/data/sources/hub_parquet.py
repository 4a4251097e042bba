"""The hub's Parquet files: images in a struct ``{bytes, path}``, a column of whole numbers with the labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.data.checksums import digest_files
from kdstats.data.messages import printable, reason
from kdstats.data.sources.decoding import Decoder
from kdstats.data.sources.layout import TEST_NAMES, Content, Opened, Wanted
from kdstats.data.sources.parquet_files import class_names, open_parquet
from kdstats.data.sources.trees import check_size
from kdstats.errors import KdstatsError, MissingError

# Folders of a hub repository in which its files lie, besides the one named like the data set.
_INNER = ("data", "plain_text", "default")
_SHARD = re.compile(r"-(\d{5})-of-(\d{5})")
# Rows read at once. A dictionary of the file may hold one large value for all of them, so they are few; decoding
# waits for more, up to _WAITING rows or bytes.
_ROWS = 16
_WAITING_ROWS, _WAITING_BYTES = 2048, 64_000_000


class HubParquet:
    """Rows in the order of the split's file names and, within a file, of the rows; ``sample_id`` counts them."""

    def looks_for(self, name: str) -> str:
        del name
        return "train-*.parquet and test-*.parquet (or val-, validation-, valid-)"

    def fits(self, path: Path, name: str) -> bool:
        return bool(_homes(path, name))

    def open(self, path: Path, wanted: Wanted) -> Opened:
        homes = _homes(path, wanted.name)
        if len(homes) > 1:
            both = " and ".join(printable(home.absolute()) for home in homes)
            raise MissingError(f"Parquet files lie in {both}; name the one that is meant")
        files = _files(homes[0], wanted.split)
        if not files:
            where = printable(homes[0].absolute())
            raise MissingError(f"no {wanted.split}-*.parquet in {where}. {wanted.how}")
        _check_shards(files, wanted.how)
        names, notes = class_names(files, _files(homes[0], "train"), wanted)
        # One digest for files and parts of the same content as ever: it identifies studies that were begun.
        digest = digest_files(files)
        return Opened(
            "\0".join([digest, *names, "", *notes]), lambda: _read(files, names, notes, digest, wanted)
        )


def _homes(path: Path, name: str) -> list[Path]:
    inner = [path / folder for folder in dict.fromkeys((*_INNER, name))]
    splits = ("train", "test")
    here = [at for at in (path, *inner) if at.is_dir() and any(_files(at, split) for split in splits)]
    return here[:1] if path in here else here


def _files(folder: Path, split: str) -> list[Path]:
    """The split's files in name order; for ``test`` those of the first usual name that is there."""
    there = sorted(f for f in folder.iterdir() if f.suffix == ".parquet" and f.is_file())
    for name in (split,) if split == "train" else TEST_NAMES:
        if found := [f for f in there if re.fullmatch(rf"{name}([-_.].*)?", f.stem)]:
            return found
    return []


def _check_shards(files: list[Path], how: str) -> None:
    """The hub names its files ``train-00000-of-00003``; a set that lacks one of them would be a quiet subset."""
    shards = [found for file in files if (found := _SHARD.search(file.stem))]
    for total in {int(shard[2]) for shard in shards}:
        there = {int(shard[1]) for shard in shards if int(shard[2]) == total}
        lacking = sorted(set(range(total)) - there)
        if lacking:
            raise MissingError(
                f"{printable(files[0].parent.absolute())} lacks part {lacking[0]:05d} of {total} ({files[0].name} is "
                f"there). {how}"
            )


def _read(
    files: list[Path], names: tuple[str, ...], notes: tuple[str, ...], digest: str, wanted: Wanted
) -> Content:
    import pyarrow as pa
    import pyarrow.compute as pc

    labels: list[NDArray[np.int64]] = []
    opened = [open_parquet(file) for file in files]
    done = 0
    with Decoder(sum(parquet.metadata.num_rows for parquet, _, _ in opened), wanted) as decoder:
        for file, (parquet, image, label) in zip(files, opened, strict=True):
            row = 0
            waiting = _Waiting(decoder, printable(file), done)
            try:
                for batch in parquet.iter_batches(batch_size=_ROWS, columns=[image, label]):
                    labels.append(_labels(batch.column(label), len(names), label, file, row))
                    waiting.add(pc.struct_field(batch.column(image), "bytes"))
                    row += len(batch)
                waiting.decode()
            except KdstatsError:
                raise
            except (pa.ArrowException, OSError, KeyError) as error:
                raise MissingError(f"{printable(file)} is damaged: {reason(error)}") from None
            if row != parquet.metadata.num_rows:
                raise MissingError(
                    f"{printable(file)} is damaged: {row} of {parquet.metadata.num_rows} rows can be read"
                )
            done += row
        return Content(decoder.images, np.concatenate(labels), names, digest, decoder.resized, notes)


class _Waiting:
    """Images of one file that wait to be decoded by threads, together.

    Args:
        decoder: What decodes them.
        file: What to call the file in a message.
        place: Of the file's first image in the decoder.
    """

    def __init__(self, decoder: Decoder, file: str, place: int) -> None:
        self._decoder, self._file, self._place = decoder, file, place
        self._row, self._bytes = 0, 0
        self._blobs: list[bytes | None] = []

    def add(self, column: Any) -> None:
        """A column of binary values; raises ``MissingError`` for one that is too large for an image."""
        for blob in column.to_pylist():
            size = 0 if blob is None else len(blob)
            check_size(size, self._where(len(self._blobs)))
            self._blobs.append(blob)
            self._bytes += size
        if len(self._blobs) >= _WAITING_ROWS or self._bytes >= _WAITING_BYTES:
            self.decode()

    def decode(self) -> None:
        """All that wait; raises as :meth:`Decoder.add`."""
        self._decoder.add(self._place + self._row, len(self._blobs), self._blobs.__getitem__, self._where)
        self._row += len(self._blobs)
        self._blobs, self._bytes = [], 0

    def _where(self, i: int) -> str:
        return f"{self._file}, row {self._row + i}"


def _labels(column: Any, classes: int, name: str, file: Path, start: int) -> NDArray[np.int64]:
    where = printable(file)
    if column.null_count:
        raise MissingError(f"{where}, row {start + column.is_null().to_pylist().index(True)}: no {name}")
    values = column.to_numpy(zero_copy_only=False)
    wrong = (values < 0) | (values >= classes)
    if wrong.any():
        row = int(np.argmax(wrong))
        raise MissingError(f"{where}, row {start + row}: {name} is {values[row]}, expected 0…{classes - 1}")
    labels: NDArray[np.int64] = values.astype(np.int64)
    return labels
