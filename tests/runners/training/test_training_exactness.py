"""Wherever a run is stopped, the same call goes on to the same weights and the same rows, bit for bit."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace

import pytest
from small_run import World, same_run

from kdstats.console import Terminated
from kdstats.errors import MissingError
from kdstats.records.writer import is_complete
from runners.training import loop
from runners.training.teaching import TEACHINGS


class Boom(Exception):
    """The process is gone."""


def dying(epoch: int, step: int):
    """``on_step`` of a process that dies after this step."""

    def on_step(e: int, s: int, loss: object) -> None:
        if (e, s) == (epoch, step):
            raise Boom

    return on_step


SETTINGS = {
    "cutmix": {},
    "sample draws": {"draws": "sample", "scheme": "mixup"},
    "history": {"scheme": "recursive_mix", "targets": "interpolated"},
    "replaced with history": {
        "scheme": "recursive_mix",
        "objective": "region_consistency",
        "gamma": 1.0,
        "alpha": 0.0,
        "beta": 0.1,
        "originals": "replaced",
        "student": "resnet8",
    },
    "memory bank": {
        "objective": "crd",
        "objective_params": (("k", 32),),
        "beta": 0.8,
        "alpha": 1.0,
        "gamma": 1.0,
        "student": "resnet8",
    },
    "two teachers in shifts": {
        "teaching": replace(TEACHINGS["dual"], period=4, unit="step", then=("cutout",))
    },
    "joint": {"passes": "joint", "objective": "fitnet", "beta": 10.0, "alpha": 1.0, "student": "resnet8"},
}


@pytest.mark.parametrize("changes", SETTINGS.values(), ids=SETTINGS.keys())
def test_a_run_that_dies_anywhere_is_the_run_that_does_not(world: World, tmp_path, changes):
    spec = world.with_(**changes)
    whole = world.run(tmp_path / "whole", spec)
    paths = None
    # After a first step, within an epoch, at the end of one, right before the end; states after every step.
    for epoch, step in ((1, 1), (1, 4), (1, 6), (2, 3), (2, 6)):
        with pytest.raises(Boom):
            world.run(tmp_path / "killed", spec, on_step=dying(epoch, step), keep_every=0.0)
        assert not is_complete(spec.paths(tmp_path / "killed"))
    paths = world.run(tmp_path / "killed", spec)
    same_run(whole, paths)
    lines = [[json.loads(line) for line in p.metrics.read_text().splitlines()] for p in (whole, paths)]
    for one, other in zip(*lines, strict=True):
        assert {k: v for k, v in one.items() if "seconds" not in k} == {
            k: v for k, v in other.items() if "seconds" not in k
        }
    assert not (paths.root / "held").exists()


@pytest.mark.parametrize("where", ["measure", "end_of_epoch", "save_state"])
@pytest.mark.parametrize("epoch", [1, 2])
def test_a_run_that_dies_between_an_epoch_and_its_state(world: World, tmp_path, monkeypatch, where, epoch):
    """The state on disk still points into the epoch, whose rows have been joined already."""
    real = getattr(loop, where)

    def dies(*args, **more):
        lines = len(paths.metrics.read_text().splitlines()) if paths.metrics.exists() else 0
        whole = where != "save_state" or args[1]["place"]["step"] == 0
        if whole and lines == epoch - (where != "save_state"):
            raise Boom
        return real(*args, **more)

    paths = world.spec.paths(tmp_path / "killed")
    monkeypatch.setattr(loop, where, dies)
    with pytest.raises(Boom):
        world.run(tmp_path / "killed", keep_every=0.0)
    monkeypatch.setattr(loop, where, real)
    same_run(world.run(tmp_path / "whole"), world.run(tmp_path / "killed"))
    assert not paths.held.exists()


def test_a_damaged_piece_is_named_before_anything_is_trained(world: World, tmp_path):
    with pytest.raises(Boom):
        world.run(tmp_path, on_step=dying(1, 4), keep_every=0.0)
    paths = world.spec.paths(tmp_path)
    piece = min(paths.held.glob("*.samples.parquet"))
    piece.write_bytes(piece.read_bytes()[:200])
    steps = []
    with pytest.raises(MissingError, match=r"samples.parquet.* Remove .*state.pt to start the run anew"):
        world.run(tmp_path, on_step=lambda *step: steps.append(step))
    assert steps == []


def test_without_states_within_an_epoch_it_begins_anew(world: World, tmp_path):
    whole = world.run(tmp_path / "whole")
    with pytest.raises(Boom):
        world.run(tmp_path / "killed", on_step=dying(2, 3))
    same_run(whole, world.run(tmp_path / "killed"))


@pytest.mark.parametrize(
    ("number", "raised"),
    [(signal.SIGTERM, Terminated), (signal.SIGUSR2, Terminated), (signal.SIGINT, KeyboardInterrupt)],
)
def test_a_signal_leaves_a_state_after_the_step(world: World, tmp_path, number, raised):
    seen = []

    def on_step(epoch: int, step: int, loss: object) -> None:
        seen.append((epoch, step))
        if (epoch, step) == (2, 3):
            os.kill(os.getpid(), number)

    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)]
    with pytest.raises(raised):
        world.run(tmp_path / "stopped", on_step=on_step)
    assert seen[-1] == (2, 3)
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)] == before
    steps = []
    paths = world.run(tmp_path / "stopped", on_step=lambda e, s, loss: steps.append((e, s)))
    assert steps[0] == (2, 4)  # nothing is done twice
    same_run(world.run(tmp_path / "whole"), paths)


def test_a_signal_at_the_last_step_of_an_epoch_ends_after_the_epoch(world: World, tmp_path):
    def on_step(epoch: int, step: int, loss: object) -> None:
        if (epoch, step) == (1, 6):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Terminated):
        world.run(tmp_path / "stopped", on_step=on_step)
    paths = world.spec.paths(tmp_path / "stopped")
    assert len(paths.metrics.read_text().splitlines()) == 1
    same_run(world.run(tmp_path / "whole"), world.run(tmp_path / "stopped"))


def test_a_state_without_its_rows_is_named(world: World, tmp_path):
    with pytest.raises(Boom):
        world.run(tmp_path, on_step=dying(1, 4), keep_every=0.0)
    paths = world.spec.paths(tmp_path)
    next((paths.root / "held").glob("*.samples.parquet")).unlink()
    with pytest.raises(MissingError, match=r"goes on from step 3; remove state.pt"):
        world.run(tmp_path)
    paths.state.unlink()
    same_run(world.run(tmp_path / "whole"), world.run(tmp_path))


def test_a_state_without_its_metrics_is_named(world: World, tmp_path):
    with pytest.raises(Boom):
        world.run(tmp_path, on_step=dying(2, 3))
    world.spec.paths(tmp_path).metrics.unlink()
    with pytest.raises(MissingError, match="holds 0 of the 1 epochs that the state knows"):
        world.run(tmp_path)
