"""Reads the pickles of the CIFAR archives without running anything that they ask for.

A pickle is a program for a small machine that may import and call whatever it names. ``pickle.Unpickler`` with a
narrow ``find_class`` would keep the imports to numpy's three, but would still call those with arguments of the file's
choice: arrays of any size and type, states with damaged fields, memo indices that allocate gigabytes. So the standard
library's disassembler (:mod:`pickletools`) only reads the instructions here, and the two dozen that these files
consist of are carried out on plain data: a name stays a name, a call is recognised by its shape and answered by this
module. Nothing of the file is imported, called or looked up, and memory is bounded by the size of the file.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kdstats.data.messages import printable, reason, shortened
from kdstats.errors import MissingError

# The largest of the real files, CIFAR-100's train, has 155 MB and 200,000 instructions.
SIZE_LIMIT = 256_000_000
STEP_LIMIT = 5_000_000
# For names that are used several times, in files that hold little else.
_SLACK = 4096

_RECONSTRUCT = frozenset({"numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct"})
_NAMES = _RECONSTRUCT | {"numpy ndarray", "numpy dtype", "_codecs encode"}


class Refused(Exception):
    """The file is no such pickle; the text says why."""


@dataclass(frozen=True)
class _Name:
    """What the file wanted to import."""

    text: str


@dataclass
class _Dtype:
    """What the file wanted to be a numpy type: its code."""

    code: str


@dataclass
class _Array:
    """What the file wanted to be a numpy array, until its state comes and sets ``value``."""

    value: NDArray[np.uint8] | None = None


class _Mark:
    """The place on the stack from which the next collection takes its members."""


_MARK = _Mark()


def read(path: Path) -> dict[str, Any]:
    """The dictionary in a pickle of Python 2: text, whole numbers, lists, and arrays of uint8.

    Returns:
        Keys as text; byte strings as ``bytes``; arrays read-only.

    Raises:
        MissingError: Absent, unreadable, cut short, too large, no such pickle, or one that asks for anything else.
    """
    where = printable(path.absolute())
    try:
        size = path.stat().st_size
        if size > SIZE_LIMIT:
            raise MissingError(f"{where} has {size / 1e6:,.0f} MB; no file of CIFAR has more than 155")
        blob = path.read_bytes()
    except MissingError:
        raise
    except OSError as error:
        raise MissingError(f"{where} cannot be read: {error.strerror}") from None
    if not blob:
        raise MissingError(f"{where} is empty")
    try:
        found = _Machine(len(blob)).run(blob)
    except Refused as refused:
        raise MissingError(f"{where} is refused: {refused}") from None
    except (ValueError, IndexError, TypeError, AttributeError, KeyError, OverflowError) as error:
        # The disassembler's and the small machine's ways to say that the file makes no sense.
        raise MissingError(f"{where} is no pickle of CIFAR, or is cut short: {reason(error)}") from None
    except (RecursionError, MemoryError) as error:
        raise MissingError(f"{where} is refused: it needs too much ({type(error).__name__})") from None
    if not isinstance(found, dict):
        raise MissingError(f"{where} holds a {type(found).__name__}, expected a dictionary")
    # The machine's own dictionaries have texts as keys.
    return {key: value.value if isinstance(value, _Array) else value for key, value in found.items()}


class _Machine:
    """Stack, memo and the permitted instructions.

    Args:
        size: Bytes of the file. All conversions between text and bytes together may make as many: a value that is
            fetched from the memo again and again would otherwise fill the memory, copy by copy.
    """

    def __init__(self, size: int) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}
        self._left = size + _SLACK

    def run(self, blob: bytes) -> Any:
        for step, (opcode, arg, _) in enumerate(pickletools.genops(blob)):
            if step > STEP_LIMIT:
                raise Refused(f"more than {STEP_LIMIT:,} instructions")
            if opcode.name == "STOP":
                return self._stack.pop()
            do = _DO.get(opcode.name)
            if do is None:
                raise Refused(f"the instruction {opcode.name} has no place in a pickle of CIFAR")
            do(self, arg)
        raise Refused("it has no end")

    def push(self, value: Any) -> None:
        self._stack.append(value)

    def pop(self) -> Any:
        value = self._stack.pop()
        if value is _MARK:
            raise ValueError("a value is missing")
        return value

    def since_mark(self) -> list[Any]:
        taken: list[Any] = []
        while (value := self._stack.pop()) is not _MARK:
            taken.append(value)
        return taken[::-1]

    def top(self, kind: type) -> Any:
        if not isinstance(self._stack[-1], kind):
            raise Refused("an instruction meets the wrong kind of value")
        return self._stack[-1]

    def put(self, index: int) -> None:
        self._memo[index] = self._stack[-1]

    def get(self, index: int) -> None:
        self._stack.append(self._memo[index])

    def extend(self, values: list[Any]) -> None:
        self.top(list).extend(values)

    def update(self, pairs: list[Any]) -> None:
        target = self.top(dict)
        if len(pairs) % 2:
            raise ValueError("a key without a value")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            target[self.text(key)] = value

    def dictionary(self, pairs: list[Any]) -> None:
        self.push({})
        self.update(pairs)

    def take(self, count: int) -> list[Any]:
        return [self.pop() for _ in range(count)][::-1]

    def name(self, text: str) -> None:
        if text not in _NAMES:
            name = shortened(text.replace(" ", ".", 1))
            raise Refused(f"it asks to import '{name}', which no file of CIFAR does")
        self.push(_Name(text))

    def call(self) -> None:
        """A call, by the three shapes that have a meaning here."""
        args, function = self.pop(), self.pop()
        if not isinstance(function, _Name) or not isinstance(args, tuple):
            raise Refused("it calls something that has no name")
        if function.text in _RECONSTRUCT and args[:1] == (_Name("numpy ndarray"),):
            self.push(_Array())
        elif function.text == "numpy dtype" and args:
            self.push(_Dtype(self.text(args[0])))
        elif function.text == "_codecs encode" and len(args) == 2 and args[1] in ("latin1", "latin-1"):
            self.spend(len(args[0]))
            self.push(args[0].encode("latin-1"))  # how Python 3 writes bytes in this protocol
        else:
            raise Refused(f"it calls {function.text.replace(' ', '.')!r} in a way that no file of CIFAR does")

    def text(self, value: Any) -> str:
        """A text; bytes are converted to one."""
        if isinstance(value, bytes):
            self.spend(len(value))
            return value.decode("latin-1")
        if not isinstance(value, str):
            raise Refused(f"a {type(value).__name__} where text is expected")
        return value

    def spend(self, count: int) -> None:
        """Counts what a conversion makes."""
        self._left -= count
        if self._left < 0:
            raise Refused("it makes more text than it holds")

    def build(self) -> None:
        """The state of an array or of its type."""
        state, target = self.pop(), self._stack[-1]
        if isinstance(target, _Array) and isinstance(state, tuple) and len(state) == 5:
            _, shape, dtype, fortran, data = state
            if not isinstance(dtype, _Dtype) or dtype.code != "u1" or fortran or not isinstance(data, bytes):
                raise Refused("an array that is not of uint8 in C order")
            target.value = np.frombuffer(data, dtype=np.uint8).reshape([int(n) for n in shape])
        elif not (isinstance(target, _Dtype) and isinstance(state, tuple)):
            raise Refused("it sets the state of something that is no array")


_DO: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda m, a: None,
    "MARK": lambda m, a: m.push(_MARK),
    "NONE": lambda m, a: m.push(None),
    "NEWTRUE": lambda m, a: m.push(True),
    "NEWFALSE": lambda m, a: m.push(False),
    **dict.fromkeys(("INT", "LONG", "LONG1", "BININT", "BININT1", "BININT2"), lambda m, a: m.push(a)),
    **dict.fromkeys(("STRING", "BINSTRING", "SHORT_BINSTRING"), lambda m, a: m.push(a.encode("latin-1"))),
    **dict.fromkeys(("UNICODE", "BINUNICODE"), lambda m, a: m.push(a)),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), _Machine.put),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), _Machine.get),
    "EMPTY_DICT": lambda m, a: m.push({}),
    "EMPTY_LIST": lambda m, a: m.push([]),
    "EMPTY_TUPLE": lambda m, a: m.push(()),
    "LIST": lambda m, a: m.push(m.since_mark()),
    "TUPLE": lambda m, a: m.push(tuple(m.since_mark())),
    "TUPLE1": lambda m, a: m.push(tuple(m.take(1))),
    "TUPLE2": lambda m, a: m.push(tuple(m.take(2))),
    "TUPLE3": lambda m, a: m.push(tuple(m.take(3))),
    "DICT": lambda m, a: m.dictionary(m.since_mark()),
    "APPEND": lambda m, a: m.extend(m.take(1)),
    "APPENDS": lambda m, a: m.extend(m.since_mark()),
    "SETITEM": lambda m, a: m.update(m.take(2)),
    "SETITEMS": lambda m, a: m.update(m.since_mark()),
    "GLOBAL": _Machine.name,
    "REDUCE": lambda m, a: m.call(),
    "BUILD": lambda m, a: m.build(),
}
