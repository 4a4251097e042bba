"""The distances of a run on disk: what a line holds, what stays untouched, how a stopped run goes on."""

import copy
import json

import numpy as np
import pytest
import torch
from torch import nn

from kdstats import models
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.records.distances import FILE, read_distances
from kdstats.teacher.network import state_sha256
from runners.training.distance_log import DistanceLog
from runners.training.distances import DEFINITION, answer_distances, linear_cka, parameter_distance

IMAGES = torch.randn(70, 1, 8, 8, generator=torch.Generator().manual_seed(0))


def _network(seed, name="lenet8"):
    torch.manual_seed(seed)
    return models.build(name, 10, 8, 1)


def _log(tmp_path, **options):
    return DistanceLog(tmp_path / FILE, **{"images": IMAGES, "batch_size": 30} | options)


def test_a_line_holds_mean_and_spread_of_everything(tmp_path):
    t, s = _network(0), _network(1)
    row = _log(tmp_path).record(1, t, s)
    header, line = map(json.loads, (tmp_path / FILE).read_text().splitlines())
    assert line == row
    assert header["definition"] == DEFINITION
    assert header["probe"]["images"] == 70
    with torch.no_grad():
        (zt, ft), (zs, fs) = (net.eval()(IMAGES, features=True) for net in (t, s))
    for name, values in answer_distances(zt, zs).items():
        # Batches of 30, 30 and 10 sum in another order than 70 at once.
        assert row[f"{name}_mean"] == pytest.approx(values.numpy().mean(), rel=1e-4)
        assert row[f"{name}_sd"] == pytest.approx(values.numpy().std(ddof=1), rel=1e-3)
    assert row["cka"] == pytest.approx(linear_cka(ft[-1], fs[-1]), rel=1e-5)
    halves = [
        linear_cka(ft[-1][k : k + 30], fs[-1][k : k + 30]) for k in (0, 30)
    ]  # the short block is left out
    assert row["cka_sd"] == pytest.approx(np.std(halves, ddof=1), rel=1e-3)
    assert row["parameter_l2"] == parameter_distance(t, s).l2
    assert "left_out" not in row


def test_a_copy_has_no_distance(tmp_path):
    t = _network(0)
    row = _log(tmp_path).record(1, t, copy.deepcopy(t))
    for name in ("parameter_l2", "kl_mean", "kl_sd", "symmetric_kl_mean", "probability_l2_mean"):
        assert row[name] == 0
    assert row["disagreement_mean"] == 0
    assert row["cka"] == pytest.approx(1, abs=1e-9)


def test_two_architectures_and_foreign_networks_say_what_is_missing(tmp_path):
    foreign = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    log = _log(tmp_path)
    row = log.record(1, _network(0, "resnet8"), _network(1))
    assert row["parameter_l2"] is None
    assert row["cka"] is not None
    assert "one architecture only" in row["left_out"]["parameters"]
    row = log.record(1, _network(0), foreign, names=("teacher", "plain"))
    assert row["cka"] is None
    assert "the student is no network" in row["left_out"]["cka"]
    assert row["kl_mean"] > 0


def test_measuring_changes_nothing(tmp_path):
    t, s = _network(0).train(), _network(1, "resnet8").train()
    frozen = next(m for m in s.modules() if isinstance(m, nn.BatchNorm2d)).eval()  # modes may differ by layer
    modes = [m.training for m in s.modules()]
    before = state_sha256(t), state_sha256(s), torch.get_rng_state()
    _log(tmp_path).record(1, t, s)
    assert (state_sha256(t), state_sha256(s)) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])
    assert [m.training for m in s.modules()] == modes
    assert not frozen.training
    assert all(p.grad is None for p in s.parameters())


def test_dead_features_are_a_finding(tmp_path):
    dead = _network(1)
    with torch.no_grad():
        for parameter in list(dead.parameters())[:-2]:
            parameter.zero_()
    row = _log(tmp_path).record(1, _network(0), dead)
    assert row["cka"] is None
    assert "the same for every image" in row["left_out"]["cka"]


def test_a_stopped_run_is_cut_back_and_goes_on(tmp_path):
    t, students = _network(0), [_network(k) for k in range(1, 5)]
    whole = _log(tmp_path / "whole")
    for epoch, student in enumerate(students, 1):
        whole.record(epoch, t, student)
    cut = _log(tmp_path / "cut")
    for epoch, student in enumerate(students[:3], 1):
        cut.record(epoch, t, student)
    with (tmp_path / "cut" / FILE).open("a") as stream:
        stream.write('{"epoch": 4, "t"')  # killed while writing; the state knows two epochs
    assert [row["epoch"] for row in read_distances(tmp_path / "cut" / FILE)] == [1, 2, 3]
    again = _log(tmp_path / "cut", known_epochs=2)
    for epoch, student in enumerate(students[2:], 3):
        again.record(epoch, t, student)
    assert (tmp_path / "cut" / FILE).read_bytes() == (tmp_path / "whole" / FILE).read_bytes()
    _log(tmp_path / "cut")  # a run that begins anew
    assert read_distances(tmp_path / "cut" / FILE) == []


def test_what_cannot_be_continued_is_named(tmp_path):
    with pytest.raises(MissingError, match=r"distances\.jsonl"):
        _log(tmp_path, known_epochs=1)
    _log(tmp_path).record(1, _network(0), _network(1))
    with pytest.raises(CheckError, match="one probe set"):
        _log(tmp_path, images=IMAGES + 1, known_epochs=1)
    path = tmp_path / FILE
    header, row = path.read_text().splitlines()
    path.write_text(f"{header}\n{row[:40]}\n{row}\n")
    with pytest.raises(MissingError, match=r"line 2, is damaged"):
        _log(tmp_path, known_epochs=1)
    for foreign in ("", "[]\n", '{"epoch": 1}\n'):
        path.write_text(foreign)
        with pytest.raises(MissingError, match="is no kdstats/distances/1 file"):
            read_distances(path)
    with pytest.raises(UsageError, match="two or more images"):
        _log(tmp_path, images=IMAGES[:1])


def test_a_network_that_answers_nan_is_named_with_its_epoch(tmp_path):
    broken = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    nn.init.constant_(broken[1].weight, 3e38)
    with pytest.raises(CheckError, match="epoch 7, teacher and broken: a logit of the student"):
        _log(tmp_path).record(7, _network(0), broken, names=("teacher", "broken"))
    assert read_distances(tmp_path / FILE) == []
