"""Switches change speed and repeatability, not what is measured, and are put back."""

from __future__ import annotations

import os

import pytest
import torch
from small_run import World, rows, same_run
from torch import nn

from kdstats import models
from kdstats.errors import UsageError
from runners.training import switches


def state() -> tuple[object, ...]:
    cudnn = torch.backends.cudnn
    strict = torch.are_deterministic_algorithms_enabled()
    return strict, cudnn.benchmark, cudnn.deterministic, os.environ.get("CUBLAS_WORKSPACE_CONFIG")


@pytest.mark.parametrize("kind", switches.DETERMINISM)
@pytest.mark.parametrize("before", [None, ":16:8"])
def test_settings_hold_for_the_run_and_come_back(kind, before, monkeypatch):
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    if before:
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", before)
    at_first = state()
    during = []

    def fail() -> None:
        with switches.determinism(kind):
            during.extend(state())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert during[:2] == [kind == "strict", kind == "off"]
    assert state() == at_first


def test_unknown_kinds_are_named():
    with pytest.raises(UsageError, match="no determinism named 'strickt'"), switches.determinism("strickt"):
        pass
    with pytest.raises(UsageError, match="no way to compile named 'on'"):
        switches.compiled(nn.Linear(2, 2), "on")
    with pytest.raises(UsageError, match="needs a GPU"):
        switches.compiled(nn.Linear(2, 2), "cudagraphs")


@pytest.mark.parametrize("name", ["resnet20", "vgg8", "MobileNetV2", "ShuffleV2", "wrn_16_1", "ResNet18"])
def test_a_folded_teacher_answers_alike(world: World, name):
    from dataclasses import replace

    torch.manual_seed(0)
    model = models.build(name, 10, 32, 3)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.2)
            module.running_var.uniform_(0.5, 2)
    model = model.eval().requires_grad_(False)
    plain = replace(world.teacher, model=model, _buffers="")
    found = switches.folded(plain)
    x = torch.randn(8, 3, 32, 32)
    torch.testing.assert_close(found.logits(x), plain.logits(x), rtol=2e-3, atol=2e-3)
    left = sum(isinstance(m, nn.BatchNorm2d) for m in found.model.modules())
    assert left < sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) > 0  # the teacher itself is as it was


def test_a_network_that_cannot_be_traced_is_named(world: World):
    from dataclasses import replace

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = nn.BatchNorm2d(1)

        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(UsageError, match="cannot be traced, so its BatchNorm cannot be folded"):
        switches.folded(replace(world.teacher, model=Branching()))


def test_folding_changes_rounding_alone(world: World, tmp_path):
    plain, fold = (rows(world.run(tmp_path, world.with_(fold_teacher=value))) for value in (False, True))
    assert fold["t_entropy"] == pytest.approx(plain["t_entropy"], rel=1e-3, abs=1e-5)
    with pytest.raises(UsageError, match="folding loses them"):
        world.run(tmp_path, world.with_(fold_teacher=True, objective="sp", beta=1.0))


def test_strict_and_seeded_runs_on_one_cpu_are_equal(world: World, tmp_path):
    paths = [world.run(tmp_path, world.with_(determinism=kind)) for kind in ("seeded", "strict")]
    same_run(*paths)
    again = world.run(tmp_path / "again", world.with_(determinism="seeded"))
    same_run(paths[0], again)


def test_switches_at_their_defaults_leave_the_digest_as_it_was(world: World):
    assert world.spec.digest == world.with_(determinism="seeded", compile="off", passes="two").digest
    others = {
        world.with_(**{k: v}).digest
        for k, v in (("determinism", "strict"), ("compile", "default"), ("passes", "joint"))
    }
    assert len(others | {world.spec.digest}) == 4
