"""The promises of every scheme, checked by kdstats itself."""

from __future__ import annotations

import itertools

import pytest

from kdstats.schemes.checks import Situation, violations


@pytest.mark.parametrize(("draws", "size"), list(itertools.product(("batch", "sample"), (8, 32, 33))))
def test_promises(draws: str, size: int) -> None:
    assert violations("checkerboard", Situation(draws, height=size, width=size + 8)) == []
