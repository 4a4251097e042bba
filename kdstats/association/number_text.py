"""Texts that a reader takes for numbers and a program does not: what to write instead."""

from __future__ import annotations

import re


def what_is_wrong(text: str) -> str:
    """Why a text is not read as a number, and how to write it; empty where it looks like no number at all.

    >>> what_is_wrong("56.3%")
    'a percent sign: write 56.3'
    >>> what_is_wrong("1,023.45")
    'a thousands separator: write 1023.45'
    >>> what_is_wrong("0,0512")
    'a decimal comma: write 0.0512'
    >>> what_is_wrong("pending")
    ''
    """
    plain = text.strip()
    number = r"[-+−]?(?:\d[\d.,'\u00a0\u202f ]*|[.,]\d+)(?:[eE][-+−]?\d+)?"
    if re.fullmatch(rf"{number}\s*%", plain):
        return f"a percent sign: write {plain.rstrip('% ').strip()}"
    if "±" in plain or "+-" in plain or "+/-" in plain:
        return "a value and its error: give them a column each (the error as --x-se or --y-se)"
    if not re.fullmatch(number, plain):
        return ""
    if "−" in plain:
        return f"a minus sign of print: write {plain.replace('−', '-')}"
    if re.fullmatch(r"[-+]?\d{1,3}(,\d{3})+\.\d*|[-+]?\d{1,3}(,\d{3}){2,}", plain):
        return f"a thousands separator: write {plain.replace(',', '')}"
    if re.fullmatch(r"[-+]?\d{1,3}(\.\d{3})+,\d*|[-+]?\d{1,3}(\.\d{3}){2,}", plain):
        return f"a thousands separator: write {plain.replace('.', '').replace(',', '.')}"
    if re.fullmatch(r"[-+]?[1-9]\d{0,2},\d{3}", plain):
        return f"a comma: write {plain.replace(',', '.')} or {plain.replace(',', '')}, as it is meant"
    if re.fullmatch(r"[-+]?\d*,\d+(?:[eE][-+]?\d+)?", plain):
        return f"a decimal comma: write {plain.replace(',', '.')}"
    if re.fullmatch(r"[-+]?\d{1,3}(['\u00a0\u202f ]\d{3})+([.]\d*)?", plain):
        return f"a thousands separator: write {re.sub(r'[^-+0-9.]', '', plain)}"
    return ""
