"""Three processes train what one trains: the same rows, each once, and the same losses up to rounding."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_run import rows
from torch import nn

from kdstats.errors import UsageError
from kdstats.records.paths import RunPaths
from kdstats.records.writer import is_complete, verify_done
from runners.training.ranks import Ranks
from runners.training.setup import prepare
from runners.training.synced_batchnorm import SyncedBatchNorm2d, synced

ROOT = Path(__file__).resolve().parents[3]
# Three processes share batches of 64 unevenly, 22, 21 and 21, and the last one of 36 evenly.
ASKED = (
    *("--student", "resnet8", "--per-class", "10", "--epochs", "2", "--seed", "3", "--device", "cpu"),
    *("--dataset", "digits"),
)


def train(out: Path, processes: int, *more: str) -> RunPaths:
    launcher = [sys.executable, "-m", "runners.student"]
    if processes > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
        launcher += ["--nproc-per-node", str(processes), "-m", "runners.student"]
    done = subprocess.run(
        [*launcher, *ASKED, *more, "--out", str(out)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return RunPaths(Path(done.stdout.strip().splitlines()[-1]))


@pytest.mark.parametrize(
    "more", [("--scheme", "cutmix"), ("--scheme", "cutmix_pick_teacher", "--draws", "sample")]
)
def test_three_processes_leave_the_rows_of_one(tmp_path, more):
    one, three = (train(tmp_path / str(n), n, *more) for n in (1, 3))
    assert is_complete(three)
    assert verify_done(three) == []
    a, b = rows(one), rows(three)
    for name in ("epoch", "step", "view", "slot", "sample_id", "partner_id", "label", "lam"):
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)
    keys = list(zip(*(b[name] for name in ("epoch", "step", "view", "slot")), strict=True))
    assert len(set(keys)) == len(keys) == 2 * 2 * 100
    for name in ("ts_ce", "t_entropy", "s_ce", "s_loss_kd"):
        np.testing.assert_allclose(a[name], b[name], rtol=2e-2, atol=2e-3, err_msg=name)
        first = a["epoch"] == 1
        np.testing.assert_allclose(a[name][first], b[name][first], rtol=2e-3, atol=2e-4, err_msg=name)
    one_weights, three_weights = load_file(one.last), load_file(three.last)
    assert list(one_weights) == list(three_weights)
    for key in one_weights:
        torch.testing.assert_close(one_weights[key], three_weights[key], rtol=2e-2, atol=2e-3)


def test_batchnorm_alone_is_batchnorm(monkeypatch):
    """With one process the sums are its own: output, gradients and running statistics are PyTorch's."""
    import runners.training.synced_batchnorm as module

    monkeypatch.setattr(module.dist, "all_reduce", lambda tensor: None)
    g = torch.Generator().manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5, momentum=None))
    twin = nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5), nn.ReLU(), nn.BatchNorm2d(5, momentum=None))
    twin.load_state_dict(plain.state_dict())
    assert isinstance(synced(twin)[1], SyncedBatchNorm2d)
    for _ in range(3):
        x = torch.randn(7, 3, 9, 9, generator=g) * 3 + 5
        for network in (plain, twin):
            network.zero_grad()
            network(x).square().mean().backward()
        for (name, a), b in zip(plain.named_parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5, msg=name)
    for (name, a), b in zip(plain.named_buffers(), twin.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6, msg=name)
    x = torch.randn(4, 3, 9, 9, generator=g)
    torch.testing.assert_close(plain.eval()(x), twin.eval()(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("n", range(1, 12))
@pytest.mark.parametrize("world", [1, 2, 3])
def test_shares_are_a_partition(n, world):
    shares = [Ranks(rank, world).slice(n) for rank in range(world)]
    positions = [i for s in shares for i in range(n)[s]]
    assert positions == list(range(n))
    sizes = [s.stop - s.start for s in shares]
    assert max(sizes) - min(sizes) <= 1


def test_what_cannot_be_shared_is_refused(world):
    two = Ranks(0, 2)
    for changes, said in (
        ({"objective": "sp", "beta": 1.0}, "sp compares the images of a batch"),
        ({"scheme": "recursive_mix", "targets": "labels"}, "a scheme with a history runs in one process"),
    ):
        with pytest.raises(UsageError, match=said):
            prepare(world.with_(**changes), world.train, world.teacher, two)
    with pytest.raises(UsageError, match="the last batch would hold 1 of 81 images for 2 processes"):
        prepare(world.spec, world.train.head(81), world.teacher, two)
