"""What a JSON document of a study must look like, and how a document that does not is refused.

A document may come from anybody, so nothing in it is used before its model has seen it. Keys that a model does not name
are left alone: later versions may write more.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from kdstats.errors import CheckError, MissingError
from kdstats.json_text import parse_json
from kdstats.small_file import read_text_of

# A student's outcome is computed in float32; sums and squares of what that can hold stay finite.
LARGEST = float(np.finfo(np.float32).max)
MOST_EPOCHS = 10_000_000
# Of lists and objects in each other; what kdstats writes has six.
_DEEPEST = 32
# Complaints of pydantic about a number of the right kind, which another number elsewhere contradicts or none can have.
_CONTRADICTION = frozenset({"finite_number", "greater_than_equal", "less_than", "less_than_equal"})

_DICTIONARY = re.compile(r"a valid dictionary( or instance of \w+)?")


class Shape(BaseModel):
    """Base of the models: no value is turned into one of another kind."""

    model_config = ConfigDict(strict=True, extra="ignore")


def _setting(value: Any) -> Any:
    if _depth_of(value, 4) > 3:
        raise ValueError("should be a plain value, or a list or object of plain values")
    return value


def _depth_of(value: Any, most: int) -> int:
    """Levels of lists and objects, counted up to ``most``."""
    level, depth = [value], 0
    while depth < most:
        inner = [item for item in level if isinstance(item, list | dict)]
        if not inner:
            return depth
        level = [found for item in inner for found in (item.values() if isinstance(item, dict) else item)]
        depth += 1
    return depth


def _plain(value: Any) -> Any:
    if isinstance(value, list | dict):
        raise ValueError("should be a plain value")
    return value


def _not_infinite(value: float) -> float:
    if abs(value) > LARGEST:  # NaN is not
        raise PydanticCustomError("finite_number", "Input should be finite or NaN")
    return value


def _not_negative(value: float) -> float:
    if value < 0:
        raise PydanticCustomError("greater_than_equal", "Input should be 0 or more")
    return value


Plain = Annotated[Any, AfterValidator(_plain)]
Setting = Annotated[Any, AfterValidator(_setting)]
Count = Annotated[int, Field(ge=0, le=2**53)]
# A card also lists the runs that failed because nothing takes so large a seed.
Seed = Annotated[int, Field(ge=-(10**40), le=10**40)]
Epochs = Annotated[int, Field(ge=1, le=MOST_EPOCHS)]
Finite = Annotated[float, Field(ge=-LARGEST, le=LARGEST, allow_inf_nan=False)]
# NaN stands for what could not be computed.
Number = Annotated[float, AfterValidator(_not_infinite)]
Positive = Annotated[Number, AfterValidator(_not_negative)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


def read_json(path: Path, what: str) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        MissingError: It is absent, cannot be read, is too large or damaged or no object, nests deeper than kdstats
            writes, or holds a text that no other file can.
    """
    text = read_text_of(path, what)
    try:
        loaded = parse_json(text)
    except ValueError as error:
        raise MissingError(f"{path} is not a readable {what}: {error}") from None
    if not isinstance(loaded, dict):
        raise MissingError(f"{path} is not a {what}: it holds no JSON object")
    if _depth_of(loaded, _DEEPEST) == _DEEPEST:
        raise MissingError(f"{path} is not a readable {what}: it is nested too deeply")
    if "\\ud" in text.lower():
        _refuse_halves(loaded, path, what)
    return loaded


def _refuse_halves(loaded: Any, path: Path, what: str) -> None:
    r"""Refuses half a character (``\ud800`` alone), which a JSON text can hold and a page cannot."""
    rest = [loaded]
    while rest:
        item = rest.pop()
        if isinstance(item, dict):
            rest += [*item, *item.values()]
        elif isinstance(item, list):
            rest += item
        elif isinstance(item, str):
            try:
                item.encode()
            except UnicodeEncodeError:
                raise MissingError(
                    f"{path} is not a readable {what}: its text {item[:80]!r} holds half a character; correct it there"
                ) from None


def check_shape(model: type[Shape], raw: Any, path: Path, under: str = "", anew: str = "") -> None:
    """Refuses a document that is not as its model says.

    Args:
        model: Of the document, or of a part of it.
        raw: What was read.
        path: The file.
        under: Where in the file ``raw`` stands, with a dot at its end.
        anew: A last sentence: what writes the file.

    Raises:
        MissingError: Keys are missing or hold another kind of value.
        CheckError: A number that cannot be: an accuracy above 1, a loss that is infinite.
    """
    try:
        model.model_validate(raw)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False)
    else:
        return
    tail = f"; {anew}" if anew else ""
    absent = [under + _place(item["loc"]) for item in found if item["type"] == "missing"]
    other = [item for item in found if item["type"] not in _CONTRADICTION and item["type"] != "missing"]
    if absent or other:
        said = [f"lacks {', '.join(absent)}"] if absent else []
        said += [f"holds another kind of value under {_one(under, other)}"] if other else []
        raise MissingError(f"{path} {' and '.join(said)}{tail}")
    raise CheckError(f"{path} contradicts itself: {_one(under, found)}{tail}")


def _one(under: str, found: list[Any]) -> str:
    first = found[0]
    what = first["msg"].removeprefix("Value error, ").removeprefix("Input ")
    what = _DICTIONARY.sub("an object", what)
    given = repr(first["input"])
    more = f", and {len(found) - 1} more like it" if len(found) > 1 else ""
    return f"{under}{_place(first['loc'])}, {given[:60]}{'…' if len(given) > 60 else ''}: it {what}{more}"


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(" ".join(str(part).split()) for part in loc)
