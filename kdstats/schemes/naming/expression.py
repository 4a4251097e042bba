"""How schemes are written: ``cutmix(alpha=0.5)``, ``flip@wang2022``, ``pick(mixup, runs=3)``, ``crop_flip+cutout``."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from kdstats.errors import UsageError

Value = str | int | float | bool | None | tuple[float, ...]
_LONGEST = 200
# Nothing else has a meaning here; a # would hide the rest of the line from Python's parser.
_CHARACTERS = re.compile(r"[a-z0-9_@+(),=.' \t-]*")
_HYPHEN = re.compile(r"(?<=[A-Za-z0-9])-(?=[A-Za-z])")
_HELP = "write for example cutmix, cutmix(alpha=0.5), cutmix@wang2022, pick(mixup) or crop_flip+cutout"


@dataclass(frozen=True, slots=True)
class Expression:
    """One scheme as written.

    Attributes:
        name: Registry name, ``pick``, or ``+`` for a composition.
        preset: What stands after ``@``, or empty.
        params: Parameters in the order of their names.
        parts: The base scheme of ``pick``, or the parts of a composition.
    """

    name: str
    preset: str = ""
    params: tuple[tuple[str, Value], ...] = ()
    parts: tuple[Expression, ...] = ()

    def __str__(self) -> str:
        """The one spelling under which results are filed."""
        if self.name == "+":
            return "+".join(map(str, self.parts))
        inside = [str(part) for part in self.parts] + [f"{k}={_spelled(v)}" for k, v in self.params]
        name = f"{self.name}@{self.preset}" if self.preset else self.name
        return f"{name}({','.join(inside)})" if inside else name


def check_length(text: str) -> None:
    """Raises ``UsageError`` if ``text`` is empty or longer than an expression may be."""
    if not text or len(text) > _LONGEST:
        raise UsageError(f"no scheme in {text[:60]!r} ({len(text)} characters, at most {_LONGEST}); {_HELP}")


def parse(text: str) -> Expression:
    """The expression behind ``text``; hyphens count as underscores, case and spaces do not matter.

    Names are not looked up here.

    Raises:
        UsageError: The text is none.
    """
    wanted = _HYPHEN.sub("_", text.strip().lower())
    check_length(wanted)
    if not _CHARACTERS.fullmatch(wanted):
        raise UsageError(f"cannot read {text!r} as a scheme; {_HELP}")
    try:
        tree = ast.parse(wanted, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(f"cannot read {text!r} as a scheme; {_HELP}") from None
    return _read(tree.body, text)


def _read(node: ast.expr, text: str) -> Expression:
    match node:
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            sides = [_read(side, text) for side in (left, right)]
            flat = [p for side in sides for p in (side.parts if side.name == "+" else (side,))]
            return Expression("+", parts=tuple(flat))
        case ast.BinOp(left=ast.Name(id=name), op=ast.MatMult(), right=right):
            after = _read(right, text)
            if after.preset or after.parts:
                raise UsageError(f"cannot read {text!r} as a scheme: one preset after one name; {_HELP}")
            return Expression(name, after.name, after.params)
        case ast.BinOp(left=ast.Call() as left, op=ast.MatMult(), right=ast.Name(id=preset)):
            before = _read(left, text)
            raise UsageError(
                f"in {text!r} the preset belongs before the parameters: {before.name}@{preset}(…)"
            )
        case ast.Name(id=name):
            return Expression(name)
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords):
            params = {}
            for keyword in keywords:
                if keyword.arg is None or keyword.arg in params:
                    twice = "" if keyword.arg is None else f": {keyword.arg} is given twice"
                    raise UsageError(f"cannot read the parameters in {text!r}{twice}; {_HELP}")
                params[keyword.arg] = _value(keyword.value, text)
            parts = tuple(_read(arg, text) for arg in args)
            return Expression(name, params=tuple(sorted(params.items())), parts=parts)
        case _:
            raise UsageError(f"cannot read {text!r} as a scheme; {_HELP}")


def _value(node: ast.expr, text: str) -> Value:
    match node:
        case ast.Name(id="true" | "false" | "none" as word):
            return {"true": True, "false": False, "none": None}[word]
        case ast.Name(id=word):
            return word
        case ast.Constant(value=(str() | int() | float()) as value):
            return value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=(int() | float()) as value)):
            return -value
        case ast.Tuple(elts=[*elements]) if elements:
            inside = [_value(element, text) for element in elements]
            if not all(isinstance(v, (int, float)) for v in inside):
                raise UsageError(f"a range in {text!r} must be made of numbers")
            return tuple(float(v) for v in inside if isinstance(v, (int, float)))
        case _:
            raise UsageError(f"the values in {text!r} must be numbers or words")


def _spelled(value: Value) -> str:
    if isinstance(value, tuple):
        return f"({','.join(map(_spelled, value))})"
    if isinstance(value, float):
        return repr(value).removesuffix(".0")
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
