"""Test loss and accuracy of a classifier."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from kdstats.data import ImageSet


@dataclass(frozen=True)
class Accuracy:
    """Mean cross-entropy at T = 1 in nats and top-1 accuracy as a fraction, over ``n`` images."""

    loss: float
    accuracy: float
    n: int


@torch.no_grad()
def measure(model: nn.Module, images: ImageSet, batch_size: int = 500) -> Accuracy:
    """Loss and accuracy in evaluation mode and float32; the model's mode is put back afterwards.

    Args:
        model: Normalised images → logits ``[B, C]``, on the same device as ``images``.
        images: The split to measure on, usually ``test``.
        batch_size: Images per forward pass.
    """
    was_training = model.training
    model.eval()
    loss, correct = 0.0, 0
    for start in range(0, len(images), batch_size):
        labels = images.labels[start : start + batch_size]
        logits = model(images.normalise(images.images[start : start + batch_size])).float()
        loss += float(F.cross_entropy(logits, labels, reduction="sum").double())
        correct += int((logits.argmax(1) == labels).sum())
    model.train(was_training)
    return Accuracy(loss / len(images), correct / len(images), len(images))
