"""States: whole and of the same run, or not used at all."""

import pytest
import torch

from runners.training.checkpoint import load_state, save_state


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, {"identity": "a", "epoch": 3, "weights": torch.arange(500.0)})
    return path


def test_a_state_comes_back(saved):
    state = load_state(saved, "a")
    assert state["epoch"] == 3
    assert torch.equal(state["weights"], torch.arange(500.0))
    assert [p.name for p in saved.parent.iterdir()] == ["state.pt"]


def test_another_runs_state_and_no_state_mean_start_anew(saved):
    said: list[str] = []
    assert load_state(saved, "b", said.append) is None
    assert load_state(saved.with_name("none"), "a", said.append) is None
    assert said == [f"{saved} belongs to another run or version: the run starts anew"]


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.5, 0.7, 0.99])
def test_one_flipped_bit_anywhere_is_noticed(saved, share):
    content = bytearray(saved.read_bytes())
    content[int(share * len(content))] ^= 4
    saved.write_bytes(content)
    said: list[str] = []
    assert load_state(saved, "a", said.append) is None
    assert said == [f"{saved} is damaged: the run starts anew"]


@pytest.mark.parametrize("length", [0, 10, 32, 500])
def test_a_cut_state_is_noticed(saved, length):
    saved.write_bytes(saved.read_bytes()[:length])
    assert load_state(saved, "a") is None
