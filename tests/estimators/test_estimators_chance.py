"""The exact test against guessing, by counting."""

from fractions import Fraction
from math import comb

import pytest

from kdstats.estimators.chance import may_be_luck


def by_counting(right: int, n: int, classes: int) -> bool:
    hit = Fraction(1, classes)
    tail = sum(comb(n, k) * hit**k * (1 - hit) ** (n - k) for k in range(right, n + 1))
    return tail > Fraction(1, 20)


@pytest.mark.parametrize(("n", "classes"), [(1, 2), (20, 10), (37, 3), (100, 100), (300, 10)])
def test_every_count_is_judged_as_counting_does(n: int, classes: int):
    judged = [may_be_luck(right / n, n, classes) for right in range(n + 1)]
    assert judged == [by_counting(right, n, classes) for right in range(n + 1)]
    assert judged[0]
    assert judged == sorted(judged, reverse=True)
