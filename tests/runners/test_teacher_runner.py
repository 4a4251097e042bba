"""The teacher runner: a card that tells how to make the same weights again, and exact continuation."""

import json
import os
import signal

import pytest
import torch

from kdstats import data, schemes
from kdstats.console import Terminated
from kdstats.data import Selection
from kdstats.errors import MissingError
from kdstats.provenance import sha256_file
from kdstats.teacher.load import load_network
from runners import recipes, teacher
from runners.training import teacher_training


@pytest.fixture(scope="module")
def sets():
    return data.load("digits", "train").head(192), data.load("digits", "test").head(100)


def _train(sets, out, epochs=3, seed=0, **more):
    return teacher_training.train(
        "lenet8", *sets, recipes.get("digits").with_epochs(epochs), seed, out, **more
    )


def test_the_same_recipe_and_seed_give_the_same_weights(sets, tmp_path):
    first = _train(sets, tmp_path / "a.safetensors")
    second = _train(sets, tmp_path / "b.safetensors")
    assert first["sha256"] == second["sha256"] == sha256_file(tmp_path / "a.safetensors")
    assert _train(sets, tmp_path / "c.safetensors", seed=1)["sha256"] != first["sha256"]
    assert json.loads((tmp_path / "a.json").read_text()) == json.loads(json.dumps(first))


def test_an_interrupted_training_continues_exactly(sets, tmp_path, monkeypatch):
    whole = _train(sets, tmp_path / "whole.safetensors")
    real, calls = teacher_training.save_state, []

    def stop_after_two(path, state):
        real(path, state)
        calls.append(state["epoch"])
        if state["epoch"] == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(teacher_training, "save_state", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        _train(sets, tmp_path / "cut.safetensors")
    monkeypatch.setattr(teacher_training, "save_state", real)
    assert _train(sets, tmp_path / "cut.safetensors")["sha256"] == whole["sha256"]
    assert calls == [1, 2]


def test_weights_that_differ_from_their_card_are_refused(sets, tmp_path):
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
            teacher_training.check_target(tmp_path / name)
    assert (tmp_path / "package.json").read_text() == '{"name": "mine"}'
    teacher_training.check_target(tmp_path / "new.safetensors")


def test_the_card_says_which_images_and_how_they_were_normalised(sets, tmp_path):
    asked = Selection("digits", classes="0,1,3", per_class=20)
    card = teacher_training.train(
        "lenet8",
        asked.train(),
        asked.test(),
        recipes.get("digits").with_epochs(1),
        0,
        tmp_path / "t.safetensors",
        asked=asked,
    )
    assert card["class_names"] == ["0", "1", "3"]
    assert card["selection"] == {"img_size": None, "classes": "0,1,3", "per_class": 20, "val_split": None}
    assert (card["scheme"], card["draws"], card["targets"]) == (None, None, None)
    assert (tuple(card["mean"]), tuple(card["std"])) == (sets[0].mean, sets[0].std)
    assert card["provenance"]["device"] == "cpu"


@pytest.mark.parametrize(("scheme", "draws"), [("full_mixup@mixkd", None), ("recursive_mix", "batch")])
def test_a_training_under_a_scheme_continues_exactly(sets, tmp_path, monkeypatch, scheme, draws):
    augmented = teacher_training.Augmented(scheme, draws)
    whole = _train(sets, tmp_path / "whole.safetensors", epochs=2, augmented=augmented)
    assert whole["sha256"] != _train(sets, tmp_path / "plain.safetensors", epochs=2)["sha256"]
    assert whole["scheme"] == schemes.record(scheme).name
    assert whole["targets"] == "labels"
    real = teacher_training.save_state

    def stop_after_one(path, state):
        real(path, state)
        if state["epoch"] == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(teacher_training, "save_state", stop_after_one)
    with pytest.raises(Terminated):
        _train(sets, tmp_path / "cut.safetensors", epochs=2, augmented=augmented)
    assert (tmp_path / "cut.state.pt").exists()
    monkeypatch.setattr(teacher_training, "save_state", real)
    assert (
        _train(sets, tmp_path / "cut.safetensors", epochs=2, augmented=augmented)["sha256"] == whole["sha256"]
    )
    assert not (tmp_path / "cut.state.pt").exists()


def test_views_replace_the_originals_and_are_taught_by_their_mixed_labels(sets):
    """The loss against its definition, λ log p(y) + (1 − λ) log p(y_partner), written out."""
    made = teacher_training.Augmented("mixup", "sample").make(sets[0], 64)
    loss = teacher_training._Loss(made, seed=3)
    loss.start_epoch(0)
    batch = next(sets[0].in_order(64))
    x = sets[0].normalise(batch.images)
    seen, view = loss.images(x, batch.labels, batch.sample_id, 0, 0)
    position = {int(i): at for at, i in enumerate(batch.sample_id)}
    logits = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    log_p = logits.double().log_softmax(1)
    expected = 0.0
    for i in range(64):
        own, other, lam = (
            position[int(view.sample_id[i])],
            position[int(view.partner_id[i])],
            float(view.lam[i]),
        )
        torch.testing.assert_close(seen[i], lam * x[own] + (1 - lam) * x[other], atol=1e-5, rtol=1e-5)
        expected -= lam * log_p[i, batch.labels[own]] + (1 - lam) * log_p[i, batch.labels[other]]
    assert float(view.lam.min()) < 0.5
    assert float(loss.of(logits, batch.labels, view)) == pytest.approx(float(expected) / 64, rel=1e-5)
    plain = teacher_training._Loss(None, seed=3)
    plain.start_epoch(0)
    assert plain.images(x, batch.labels, batch.sample_id, 0, 0)[0] is x
    by_hand = -float(log_p[torch.arange(64), batch.labels].mean())
    assert float(plain.of(logits, batch.labels, None)) == pytest.approx(by_hand, rel=1e-5)


def test_dropout_continues_where_it_was(sets, tmp_path, monkeypatch):
    """A network that draws numbers of its own: its generator is part of the state."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "dropping.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, img_size, in_channels):\n"
        "    n = in_channels * img_size * img_size\n"
        "    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(n, num_classes))\n"
    )

    def run(name, arch="dropping:make"):
        return teacher_training.train(
            arch, *sets, recipes.get("digits").with_epochs(2), 0, tmp_path / f"{name}.safetensors"
        )

    whole = run("whole")
    assert whole["arch"] == "dropping:make"
    real = teacher_training.save_state

    def stop_after_one(path, state):
        real(path, state)
        raise KeyboardInterrupt

    monkeypatch.setattr(teacher_training, "save_state", stop_after_one)
    with pytest.raises(KeyboardInterrupt):
        run("cut")
    monkeypatch.setattr(teacher_training, "save_state", real)
    torch.manual_seed(99)
    assert run("cut")["sha256"] == whole["sha256"]
    # Its card names code, which only the user may ask for.
    with pytest.raises(
        MissingError, match="names code, dropping:make; pass --arch dropping:make if you trust it"
    ):
        load_network(tmp_path / "whole.safetensors", None, sets[0], torch.device("cpu"))
    assert (
        load_network(tmp_path / "whole.safetensors", "dropping:make", sets[0], torch.device("cpu")).sha256
        == whole["sha256"]
    )


def test_what_cannot_be_trained_is_refused_first(tmp_path):
    from kdstats.errors import UsageError

    out = ["--out", str(tmp_path / "t.safetensors")]
    for arguments, said in (
        (["--scheme", "cutmix_pick_teacher"], "nobody to ask"),
        (["--scheme", "mixupp"], "'mixup'"),
        (["--draws", "batch"], "add --scheme NAME"),
        (["--arch", "resnet9"], "'resnet8'"),
        (["--arch", "nomodule_y:make"], "cannot import nomodule_y"),
        (["--device", "gpu"], "gpu"),
    ):
        with pytest.raises(UsageError, match=said):
            teacher.main([*arguments, *out])
    with pytest.raises(SystemExit):  # nothing is chosen, so nothing is held out
        teacher.main(["--val-split", "0.1", *out])
    assert not list(tmp_path.iterdir())


def test_the_command_writes_a_card_with_the_device(tmp_path, capsys):
    out = tmp_path / "t.safetensors"
    words = ["--arch", "lenet8", "--epochs", "1", "--classes", "3", "--scheme", "mixup", "--device", "cpu"]
    assert teacher.main([*words, "--out", str(out)]) == 0
    card = json.loads(out.with_suffix(".json").read_text())
    assert card["selection"]["classes"] == "3"
    assert card["scheme"] == "mixup"
    assert "test accuracy" in capsys.readouterr().out
