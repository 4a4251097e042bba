"""Fixtures of the training tests."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from small_run import World

from kdstats import data
from kdstats.teacher.load import load_network
from runners import recipes
from runners.run_spec import RunSpec


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def world() -> World:
    train = data.load("digits", "train").head(90)
    teacher = load_network(None, None, data.load("digits", "train"), torch.device("cpu"))
    spec = RunSpec(
        dataset="digits",
        data=None,
        dataset_sha256=train.digest,
        teacher="resnet8",
        teacher_weights=teacher.source,
        teacher_arch="resnet8",
        teacher_sha256=teacher.sha256,
        student="lenet8",
        scheme="cutmix",
        seed=0,
        recipe=replace(recipes.get("digits").with_epochs(2), batch_size=16),
    )
    return World(train, data.load("digits", "test").head(60), teacher, spec)
