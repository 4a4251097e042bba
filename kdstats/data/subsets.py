"""Which images a part of a set holds, chosen by their ids, and the digest of the part.

Every image has a rank that depends on the seed and its own id alone, so that a choice does not depend on which other
classes are there, and that 50 images per class are among the 100 of the same seed.
"""

from __future__ import annotations

import hashlib
import json
import operator
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kdstats.data.class_lists import Line, read_lines
from kdstats.data.messages import shortened
from kdstats.draws.splitmix import FIRST, SECOND, finalise
from kdstats.errors import UsageError, unknown

Classes = int | Sequence[int | str | Line]
# No number of a class has more; Python refuses to read some thousands, and nobody would want to see them in a message.
_MOST_DIGITS = 9
_TAKE, _SPLIT = 0x74616B65, 0x73706C69


def parse_classes(text: str) -> Classes:
    """What a command line or a study file says.

    ``20`` for the first twenty; ``cat,dog`` or ``3,7`` for these; ``@FILE`` for those of a file, one a line (see
    :class:`~kdstats.data.class_lists.Line`).

    Raises:
        UsageError: An empty name between commas, or a number of too many digits.
        MissingError: See :func:`~kdstats.data.class_lists.read_lines`.
    """
    if text.startswith("@"):
        return read_lines(Path(text[1:]))
    parts = [part.strip() for part in text.split(",")]
    if len(parts) == 1 and parts[0].isdecimal():
        return _number(parts[0])
    if not all(parts):
        raise UsageError(f"classes are a number or names separated by commas, not {shortened(repr(text))}")
    return parts


def class_indices(classes: Classes | None, names: Sequence[str], class_ids: Sequence[str] = ()) -> list[int]:
    """Indices into ``names``, ascending.

    Args:
        classes: A number N for the first N; names, ids, indices or lines of a list; None for all. A decimal text that
            is neither name nor id is an index.
        names: All class names.
        class_ids: Their second names, in the same order; empty where there are none. A name counts before an id.

    Raises:
        UsageError: More classes than there are, none, an unknown one, or one twice.
    """
    if classes is None:
        return list(range(len(names)))
    if isinstance(classes, (str, bool)):
        raise UsageError(f"classes are a number or a list of names or indices, not {classes!r}")
    if isinstance(classes, (int, np.integer)):
        if not 1 <= classes <= len(names):
            raise UsageError(f"{classes} classes were asked for; there are {len(names)}")
        return list(range(int(classes)))
    known: dict[str, int] = {}
    for index, name in [*enumerate(names), *enumerate(class_ids)]:
        known.setdefault(name, index)
    found: set[int] = set()
    for one in classes:
        if isinstance(one, Line) and not one.named and one.text not in known:
            continue  # a remark
        index = _of_line(one, known, names) if isinstance(one, Line) else _index(one, known, names)
        if index in found:
            raise UsageError(f"class {names[index]!r} is named twice")
        found.add(index)
    if not found:
        raise UsageError("an empty list of classes; leave it out for all of them")
    return sorted(found)


def _number(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise UsageError(f"a number of classes has up to {_MOST_DIGITS} digits, not {len(digits)}")
    return int(digits)


def _of_line(line: Line, known: dict[str, int], names: Sequence[str]) -> int:
    meant = line.reading(known)
    try:
        return _index(line.named if meant is None else meant, known, names)
    except UsageError as error:
        raise UsageError(f"{line.where}: {error}") from None


def _index(one: int | str, known: dict[str, int], names: Sequence[str]) -> int:
    if isinstance(one, str):
        if one in known:
            return known[one]
        if not one.isdecimal():
            raise unknown("class", shortened(one), names)
        one = _number(one)
    try:
        index = operator.index(one)
    except TypeError:
        raise UsageError(f"a class is a name or an index, not {one!r}") from None
    if isinstance(one, bool) or not 0 <= index < len(names):
        raise UsageError(f"class {one!r} does not exist; the indices are 0…{len(names) - 1}")
    return index


def choose(
    labels: NDArray[np.int64],
    ids: NDArray[np.int64],
    names: Sequence[str],
    indices: Sequence[int],
    per_class: int | None,
    seed: int,
) -> NDArray[np.int64]:
    """Positions of the images of the classes ``indices``, ``per_class`` of each by rank, in their old order.

    Raises:
        UsageError: A class has fewer images than are asked for, or a senseless number or seed.
    """
    _check_seed(seed)
    if per_class is None:
        return np.flatnonzero(np.isin(labels, list(indices)))
    if isinstance(per_class, bool) or not isinstance(per_class, int) or per_class < 1:
        raise UsageError(f"per class at least 1 image, not {per_class!r}")
    chosen = []
    for index in indices:
        members = np.flatnonzero(labels == index)
        if len(members) < per_class:
            raise UsageError(f"class {names[index]!r} has {len(members)} images; {per_class} were asked for")
        chosen.append(members[_by_rank(ids[members], seed, _TAKE)[:per_class]])
    return np.sort(np.concatenate(chosen))


def halve(
    labels: NDArray[np.int64], ids: NDArray[np.int64], names: Sequence[str], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Which images belong to the first of two parts: ``fraction`` of every class, rounded, at least one on each side.

    Raises:
        UsageError: ``fraction`` outside of (0, 1), or a class of a single image.
    """
    _check_seed(seed)
    if not 0 < fraction < 1:
        raise UsageError(f"a part is more than 0 and less than 1 of the whole, not {fraction!r}")
    first = np.zeros(len(labels), dtype=np.bool_)
    for index, name in enumerate(names):
        members = np.flatnonzero(labels == index)
        if len(members) == 0:
            continue
        if len(members) == 1:
            raise UsageError(f"class {name!r} has one image and cannot be split")
        count = min(max(int(np.floor(fraction * len(members) + 0.5)), 1), len(members) - 1)
        first[members[_by_rank(ids[members], seed, _SPLIT)[:count]]] = True
    return first


def part_digest(digest: str, indices: Sequence[int], ids: NDArray[np.int64]) -> str:
    """sha256 that names a part: of the digest of the whole, the classes kept, and the ids kept, in order."""
    kept = hashlib.sha256(np.ascontiguousarray(ids, dtype="<i8").tobytes()).hexdigest()
    return hashlib.sha256(json.dumps(["part", digest, list(indices), kept]).encode()).hexdigest()


def resized_digest(digest: str, img_size: int) -> str:
    """sha256 that names the images of ``digest`` brought to another size."""
    return hashlib.sha256(json.dumps(["resized", digest, img_size]).encode()).hexdigest()


def streamed_digest(digest: str, img_size: int, shorter: int) -> str:
    """sha256 that names the streamed files of ``digest`` at one size: what is cut out of them is part of the data."""
    return hashlib.sha256(json.dumps(["streamed", digest, img_size, shorter]).encode()).hexdigest()


def _check_seed(seed: int) -> None:
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 1 << 63:
        raise UsageError(f"a seed is a whole number, 0 or more, not {seed!r}")


def _by_rank(ids: NDArray[np.int64], seed: int, purpose: int) -> NDArray[np.int64]:
    """Positions of ``ids`` in the order of their ranks.

    The splitmix64 finaliser (:mod:`kdstats.draws.splitmix`) over seed, purpose and id: numpy's own streams may change
    between its versions, a choice of images must not.
    """
    with np.errstate(over="ignore"):
        key = finalise(np.array([seed], dtype=np.uint64) + np.uint64(purpose) * FIRST)
        ranks = finalise(ids.astype(np.uint64) * SECOND + key)
    return np.lexsort((ids, ranks))
