"""Parameters of schemes: what kind of value each takes, read from the signature of its class."""

from __future__ import annotations

import inspect
import math
import re
from dataclasses import dataclass
from typing import Any

from kdstats.errors import UsageError
from kdstats.schemes.naming.expression import Value

_WORD = re.compile(r"[a-z_][a-z0-9_.]*")
_RANGES = ("Interval", "tuple", "Sequence")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One keyword of a scheme.

    Attributes:
        name: As written.
        kind: Its annotation: ``int``, ``float``, ``bool``, ``str``, a range, each possibly ``| None``.
        default: Value when it is not given.
    """

    name: str
    kind: str
    default: Any

    def accept(self, scheme: str, value: Any) -> Value:
        """``value`` as plain Python of the right kind: whole numbers for ``int``, ranges as tuples of floats.

        Raises:
            UsageError: It is of another kind, or not finite.
        """
        if hasattr(value, "item") and getattr(value, "ndim", 0) == 0:
            value = value.item()  # numpy's and torch's numbers
        if isinstance(value, (list, tuple)) and any(r in self.kind for r in _RANGES):
            ends = tuple(0.0 + self._number(scheme, v) for v in value)  # 0.0 + −0.0 is 0.0
            if len(ends) == 2:
                return ends[0] if ends[0] == ends[1] else ends
        elif isinstance(value, bool):
            if "bool" in self.kind:
                return value
        elif isinstance(value, (int, float)):
            number = self._number(scheme, value)
            if "float" in self.kind or any(r in self.kind for r in _RANGES):
                return 0.0 + number
            if "int" in self.kind and number == int(number):
                return int(number)
        elif isinstance(value, str):
            if "str" in self.kind and _WORD.fullmatch(value) and value not in ("true", "false", "none"):
                return value
        elif value is None and "None" in self.kind:
            return None
        raise UsageError(
            f"{scheme}: {self.name} takes {self._words()}, a parameter has the wrong kind of value: "
            f"{self.name}={value}"
        )

    def _number(self, scheme: str, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UsageError(f"{scheme}: {self.name} takes {self._words()}, not {value}")
        if abs(value) > 1e9:
            raise UsageError(f"{scheme}: {self.name}={value} is out of all proportion")
        return float(value)

    def _words(self) -> str:
        if any(r in self.kind for r in _RANGES):
            return "a number or a range (low, high)"
        said = {"int": "a whole number", "float": "a number", "bool": "true or false", "str": "a word"}
        return " or ".join(text for kind, text in said.items() if kind in self.kind) or self.kind


def parameters_of(cls: Any) -> dict[str, Parameter]:
    """Keyword-only parameters of a scheme's class, by name; one without annotation takes anything its default is."""
    found = {}
    for p in inspect.signature(cls.__init__).parameters.values():
        if p.kind is p.KEYWORD_ONLY:
            kind = p.annotation if isinstance(p.annotation, str) else getattr(p.annotation, "__name__", "")
            found[p.name] = Parameter(p.name, kind or type(p.default).__name__, p.default)
    return found
