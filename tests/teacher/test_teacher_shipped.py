from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from kdstats import data, models
from kdstats.errors import MissingError, UsageError
from kdstats.provenance import sha256_file
from kdstats.teacher.accuracy import measure
from kdstats.teacher.card import card_of
from kdstats.teacher.evaluate import evaluate_da
from kdstats.teacher.load import load_network, shipped_path

CPU = torch.device("cpu")


def test_the_shipped_teacher_is_what_its_card_says():
    path = shipped_path()
    card = card_of(path)
    assert card["sha256"] == sha256_file(path)
    train, test = data.load("digits", "train"), data.load("digits", "test")
    assert card["dataset_sha256"] == test.digest
    assert (card["classes"], card["channels"], card["img_size"], card["base"]) == (10, 1, 8, train.base)
    assert (tuple(card["mean"]), tuple(card["std"])) == (train.mean, train.std)
    net = models.build(card["arch"], card["classes"], card["img_size"], card["channels"])
    models.load_weights(net, path)
    found = measure(net, test)
    assert found.n == card["test_images"] == 517
    assert found.loss == pytest.approx(card["test_loss"], abs=1e-6)
    assert found.accuracy == pytest.approx(card["test_accuracy"], abs=1e-6)
    assert path.stat().st_size < 2_000_000


def test_measure_by_hand():
    test = data.load("digits", "test").head(101)
    net = models.build("lenet8", 10, 8, 1)
    net.train()
    found = measure(net, test, batch_size=40)
    assert net.training
    net.eval()
    with torch.no_grad():
        logits = net((test.images.float() / 255 - test.mean[0]) / test.std[0]).double().numpy()
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    labels = test.labels.numpy()
    assert found.loss == pytest.approx(-log_p[np.arange(101), labels].mean(), rel=1e-5)
    assert found.accuracy == pytest.approx((log_p.argmax(1) == labels).mean())


def test_load_network_checks_hash_card_and_fit(tmp_path):
    digits = data.load("digits")
    path = tmp_path / "t.safetensors"
    shutil.copy(shipped_path(), path)
    read_off = load_network(path, None, digits, CPU)  # nobody says what it is, its tensors do
    assert (read_off.arch, read_off.inferred) == ("resnet8", True)
    loaded = load_network(path, "resnet8", digits, CPU)
    assert (loaded.arch, loaded.name, loaded.sha256) == ("resnet8", "t", sha256_file(path))
    assert not loaded.model.training
    card = json.loads(shipped_path().with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps({**card, "sha256": "0" * 64}))
    with pytest.raises(MissingError, match="changed or damaged"):
        load_network(path, None, digits, CPU)
    path.with_suffix(".json").write_text("{")
    with pytest.raises(MissingError, match=r"t\.json is not readable JSON"):
        load_network(path, None, digits, CPU)
    path.with_suffix(".json").write_text(json.dumps(card))
    assert load_network(path, None, digits, CPU).arch == "resnet8"
    with pytest.raises(MissingError, match="does not fit the network"):
        load_network(path, "resnet14", digits, CPU)
    with pytest.raises(UsageError, match="resnet20"):
        load_network(path, "resnet21", digits, CPU)
    with pytest.raises(MissingError, match=r"no teacher at /.*runners\.teacher"):
        load_network(tmp_path / "nowhere.pth", "resnet8", digits, CPU)


def test_the_shipped_teacher_is_never_used_for_other_data():
    from dataclasses import replace

    other = replace(data.load("digits"), name="cifar100")
    with pytest.raises(UsageError, match="knows digits only"):
        load_network(None, None, other, CPU)


def test_logits_are_float32_without_gradient_and_independent_of_the_batch():
    network = load_network(None, None, data.load("digits"), CPU)
    x = torch.randn(5, 1, 8, 8)
    out = network.logits(x)
    assert out.dtype == torch.float32
    assert not out.requires_grad
    assert torch.allclose(out[2:3], network.logits(x[2:3]), atol=1e-5)


def test_a_teacher_whose_test_loss_is_not_a_number(tmp_path, monkeypatch):
    class Nothing(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.full((len(x), 10), float("nan"))

    from dataclasses import replace

    from kdstats.teacher import evaluate

    real = load_network

    def broken(*args: object, **kwargs: object) -> object:
        return replace(real(*args, **kwargs), model=Nothing(), source="broken.pth", sha256="broken")

    monkeypatch.setattr(evaluate, "load_network", broken)
    with pytest.raises(MissingError, match=r"broken\.pth.*test loss is nan"):
        evaluate_da("cutmix")
