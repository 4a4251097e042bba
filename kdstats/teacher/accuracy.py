"""Test loss and accuracy of a classifier, measured once per weights and data."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from kdstats.data import LabelledImages
from kdstats.data.cache import cache_folder
from kdstats.records.atomic import write_bytes_atomic
from kdstats.teacher.network import Network


@dataclass(frozen=True)
class Accuracy:
    """Mean cross-entropy at T = 1 in nats and top-1 accuracy as a fraction, over ``n`` images."""

    loss: float
    accuracy: float
    n: int


@torch.no_grad()
def measure(model: nn.Module, images: LabelledImages, batch_size: int = 500) -> Accuracy:
    """Loss and accuracy in evaluation mode and float32; the model's mode is put back afterwards.

    Args:
        model: Normalised images → logits ``[B, C]``, on the same device as ``images``.
        images: The split to measure on, usually ``test``.
        batch_size: Images per forward pass.
    """
    was_training = model.training
    model.eval()
    loss, correct = 0.0, 0
    for pixels, labels, _ in images.in_order(batch_size):
        logits = model(images.normalise(pixels)).float()
        loss += float(F.cross_entropy(logits, labels, reduction="sum").double())
        correct += int((logits.argmax(1) == labels).sum())
    model.train(was_training)
    return Accuracy(loss / len(images), correct / len(images), len(images))


def remembered(network: Network, images: LabelledImages) -> Accuracy:
    """As :func:`measure`, kept under the cache folder by the hashes of weights and data.

    A network from a factory is measured every time: its code can change while its weights do not.
    """
    if ":" in network.arch and not network.arch.startswith(("torchvision:", "timm:")):
        return measure(network.model, images)
    what = (
        f"{network.arch} {network.source if ':' in network.source else ''} {network.sha256} {images.digest}"
    )
    what += f" {images.split} {images.mean} {images.std}"
    entry = cache_folder() / "accuracy" / f"{hashlib.sha256(what.encode()).hexdigest()[:32]}.json"
    try:
        kept = Accuracy(**json.loads(entry.read_text(encoding="utf-8")))
        if kept.n == len(images) and isinstance(kept.loss, float) and isinstance(kept.accuracy, float):
            return kept
    except (OSError, ValueError, TypeError):
        pass  # not there, or damaged: measured again
    found = measure(network.model, images)
    # A full or read-only cache costs time at the next start, never the result.
    with contextlib.suppress(OSError):
        entry.parent.mkdir(parents=True, exist_ok=True)
        write_bytes_atomic(entry, json.dumps(asdict(found)).encode())
    return found
