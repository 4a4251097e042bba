"""The teacher runner: a card that tells how to make the same weights again, and exact continuation."""

import json

import pytest

from kdstats import data
from kdstats.errors import MissingError
from kdstats.provenance import sha256_file
from kdstats.teacher.load import load_network
from runners import recipes, teacher


@pytest.fixture(scope="module")
def sets():
    return data.load("digits", "train").head(320), data.load("digits", "test").head(200)


def _train(sets, out, epochs=3, seed=0):
    return teacher.train("lenet8", *sets, recipes.get("digits").with_epochs(epochs), seed, out)


def test_the_same_recipe_and_seed_give_the_same_weights(sets, tmp_path):
    first = _train(sets, tmp_path / "a.safetensors")
    second = _train(sets, tmp_path / "b.safetensors")
    assert first["sha256"] == second["sha256"] == sha256_file(tmp_path / "a.safetensors")
    assert _train(sets, tmp_path / "c.safetensors", seed=1)["sha256"] != first["sha256"]
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(first))


def test_an_interrupted_training_continues_exactly(sets, tmp_path, monkeypatch):
    whole = _train(sets, tmp_path / "whole.safetensors")
    real, calls = teacher.save_state, []

    def stop_after_two(path, state):
        real(path, state)
        calls.append(state["epoch"])
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(teacher, "save_state", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        _train(sets, tmp_path / "cut.safetensors")
    monkeypatch.setattr(teacher, "save_state", real)
    assert _train(sets, tmp_path / "cut.safetensors")["sha256"] == whole["sha256"]
    assert calls == [1, 2]


def test_weights_that_differ_from_their_card_are_refused(sets, tmp_path):
    import torch

    out = tmp_path / "t.safetensors"
    _train(sets, out, epochs=1)
    card = json.loads(out.with_suffix(".json").read_text())
    out.with_suffix(".json").write_text(json.dumps(card | {"sha256": "0" * 64}))
    with pytest.raises(MissingError, match="changed or damaged"):
        load_network(out, None, sets[0], torch.device("cpu"))


def test_a_target_that_would_replace_something_else_is_refused_first(tmp_path):
    from kdstats.errors import UsageError

    (tmp_path / "package.json").write_text('{"name": "mine"}')
    (tmp_path / "folder.safetensors").mkdir()
    for name, said in (
        ("package.safetensors", "no teacher's card"),
        ("folder.safetensors", "is a folder"),
        ("weights.pth", "weights.safetensors"),
        ("card.json", "card.safetensors"),
    ):
        with pytest.raises(UsageError, match=said):
            teacher.check_target(tmp_path / name)
    assert (tmp_path / "package.json").read_text() == '{"name": "mine"}'
    teacher.check_target(tmp_path / "new.safetensors")
