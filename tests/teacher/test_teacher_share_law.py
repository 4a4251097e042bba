"""The law of λ from draws without images."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.teacher.share_law import ShareLaw

SHAPE = torch.Size((64, 3, 32, 32))
ROWS = [np.array([0.5, 0.25])]


def test_mixups_shares_are_uniform():
    law = ShareLaw.of(schemes.get("mixup"), SHAPE, seed=0)
    found = law.drawn([np.array([0.4, 0.16])] * 200)
    assert found.draws == 6000
    np.testing.assert_allclose(found.mean, [1 / 2, 1 / 3], atol=0.015)
    np.testing.assert_allclose(found.covariance, [[1 / 12, 1 / 12], [1 / 12, 4 / 45]], atol=0.005)
    np.testing.assert_allclose(found.values, np.tile([0.4, 0.16], (200, 1)))


def test_cutmix_shares_are_those_of_clipped_boxes():
    """The mean replaced area under 200,000 draws is 0.299 at 32x32."""
    law = ShareLaw.of(schemes.get("cutmix"), SHAPE, seed=1).drawn(ROWS * 200)
    assert 1 - law.mean[0] == pytest.approx(0.299, abs=4 * 0.183 / 6000**0.5)


def test_picking_knows_the_law_of_what_it_picks_from():
    """Two draws a batch: the same mean, half the variance."""
    one, two = (ShareLaw.of(schemes.get(n), SHAPE, seed=1) for n in ("cutmix", "cutmix_pick_teacher"))
    single, pair = one.drawn(ROWS * 200), two.drawn(ROWS * 200)
    np.testing.assert_allclose(pair.mean, single.mean, atol=0.015)
    np.testing.assert_allclose(pair.covariance, single.covariance / 2, rtol=0.1)


def test_more_batches_ask_for_more_draws_and_keep_those_made():
    law = ShareLaw.of(schemes.get("cutmix"), SHAPE, seed=2)
    few, many = law.drawn(ROWS * 20), law.drawn(ROWS * 40)
    again = ShareLaw.of(schemes.get("cutmix"), SHAPE, seed=2).drawn(ROWS * 40)
    assert (few.draws, many.draws) == (600, 1200)
    np.testing.assert_array_equal(many.mean, again.mean)
    assert law.drawn(ROWS * 20).draws == 1200
    other = ShareLaw.of(schemes.get("cutmix"), SHAPE, seed=3).drawn(ROWS * 40)
    assert not np.array_equal(other.mean, many.mean)


def test_draws_are_not_those_of_the_batches():
    scheme = schemes.get("mixup")
    law = ShareLaw.of(scheme, SHAPE, seed=0)
    drawn = law.drawn(ROWS).mean[0] * 30
    like = torch.zeros(()).expand(SHAPE)
    own = sum(
        float(scheme.draw_shares(like, generator=generator(0, "view", 0, step)).mean()) for step in range(30)
    )
    assert drawn != pytest.approx(own)


@pytest.mark.parametrize(
    ("name", "draws"),
    [("flip", "batch"), ("recursive_mix", "batch"), ("mixup", "sample")],
)
def test_no_law_where_a_batch_has_no_share_of_its_own(name, draws):
    assert ShareLaw.of(schemes.get(name, draws=draws), SHAPE, seed=0) is None
