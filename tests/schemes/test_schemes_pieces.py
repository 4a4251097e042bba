"""Changing some images of a batch: who is changed, who is not, and how large the pieces are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from kdstats.schemes import pieces
from kdstats.schemes.pieces import change_where, rows_of


@pytest.mark.parametrize("piece", [1, 2 * 12, 5 * 12 + 1, 2**19])
@pytest.mark.parametrize(
    "on", [[True], [False], [True] * 7, [False] * 7, [True, False, True, True, False, True, True]]
)
def test_change_where(piece, on, monkeypatch):
    monkeypatch.setattr(pieces, "PIECE", piece)
    x = torch.arange(7 * 12, dtype=torch.float32).view(7, 3, 2, 2)
    before, seen = x.clone(), []

    def change(some: Tensor, rows: Tensor) -> Tensor:
        assert torch.equal(some, x[rows])
        seen.append(rows)
        return some + 100 * (rows + 1).view(-1, 1, 1, 1)

    found = change_where(x, torch.tensor(on), change)
    each = torch.tensor(on).expand(7).float()
    assert torch.equal(found, x + (each * torch.arange(1, 8) * 100).view(-1, 1, 1, 1))
    assert torch.equal(x, before)
    assert found.data_ptr() != x.data_ptr()
    assert all(1 <= len(rows) <= max(1, piece // 12) for rows in seen)


def test_rows_of():
    rows = torch.tensor([2, 0])
    assert rows_of(torch.tensor([5]), rows).tolist() == [5]
    assert rows_of(torch.tensor([5, 6, 7]), rows).tolist() == [7, 5]
