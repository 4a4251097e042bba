"""Does distillation teach? On digits, three seeds, more than chance could."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from scipy import stats
from small_run import World

from kdstats import data
from kdstats.teacher.load import load_network
from runners import recipes
from runners.training.loop import train_student


def test_a_student_taught_by_the_teacher_beats_one_taught_by_labels(world: World, tmp_path):
    """Few images, so that the teacher's answers matter: 8 of each class, paired over seeds (same start, same order)."""
    whole, test = data.load("digits", "train"), data.load("digits", "test")
    teacher = load_network(None, None, whole, torch.device("cpu"))
    train = whole.take(per_class=8)
    recipe = replace(recipes.get("digits").with_epochs(50), batch_size=16, lr=0.02)
    settings = {
        "kd": {"gamma": 0.1, "alpha": 0.9},
        "ce": {"objective": "ce", "gamma": 1.0, "alpha": 0.0, "originals": "replaced"},
    }
    losses: dict[str, list[float]] = {name: [] for name in settings}
    for name, changes in settings.items():
        for seed in range(3):
            spec = world.with_(scheme="identity", seed=seed, recipe=recipe, **changes)
            outcome = train_student(spec, spec.paths(tmp_path), train, test, teacher)
            losses[name].append(outcome["test_loss_last"])
    gain = np.array(losses["ce"]) - np.array(losses["kd"])
    assert (gain > 0).all(), losses
    assert stats.ttest_1samp(gain, 0, alternative="greater").pvalue < 0.05, losses
