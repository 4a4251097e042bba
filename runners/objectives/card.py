"""What is said of every objective: what it needs, and the weights it was published with."""

from __future__ import annotations

from dataclasses import dataclass

NEEDS = {
    "teacher": "teacher's logits",
    "labels": "labels",
    "features": "features",
    "student_features": "student's features",
    "sample_id": "sample ids",
    "view": "views",
    "recursive": "of recursive_mix",
    "modules": "trainable modules",
}


@dataclass(frozen=True)
class Weights:
    """Published weights of ``γ CE + α KL + β L``."""

    gamma: float
    alpha: float
    beta: float

    def __str__(self) -> str:
        return f"γ {self.gamma:g}, α {self.alpha:g}, β {self.beta:g}"
