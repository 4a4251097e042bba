"""Test loss and accuracy of a classifier, measured once per weights and data."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import asdict, dataclass

import torch
import torch.nn.functional as F
from torch import nn

from kdstats._version import __version__
from kdstats.data import LabelledImages, loading
from kdstats.data.cache import cache_folder
from kdstats.estimators.chance import may_be_luck
from kdstats.json_text import parse_json
from kdstats.records.atomic import write_bytes_atomic
from kdstats.teacher.architectures import runs_own_code
from kdstats.teacher.network import Network
from kdstats.teacher.notes import Note

# A teacher that knows nothing is taken for one that knows something this often.


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
    """As :func:`measure`, kept under the cache folder by all that it depends on: weights, data, constants, version.

    A network from a factory is measured every time: its code can change while its weights do not.
    """
    if runs_own_code(network.arch):
        return measure(network.model, images)
    what = [
        __version__,
        loading._FORMAT,  # the decoder's: other pixels from the same files
        network.arch,
        network.source if ":" in network.source else "",
        network.sha256,
        network.mean,
        network.std,
        images.digest,
        getattr(images, "stamp", ""),
        images.split,
        images.img_size,
        images.mean,
        images.std,
    ]
    key = hashlib.sha256(json.dumps(what).encode()).hexdigest()[:32]
    entry = cache_folder() / "accuracy" / f"{key}.json"
    try:
        kept = Accuracy(**parse_json(entry.read_text(encoding="utf-8")))
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


def chance(network: Network, found: Accuracy, classes: int) -> Note | None:
    """A warning where the accuracy of ``network`` may be luck (:func:`may_be_luck`); None otherwise."""
    if not may_be_luck(found.accuracy, found.n, classes):
        return None
    return Note(
        "teacher-at-chance",
        f"{network.name} is no better than guessing: {100 * found.accuracy:.1f} % test accuracy over {found.n:,} "
        f"images, {100 / classes:.3g} % by chance; its T. stddev says nothing about augmentations. Check weights, "
        "classes and normalisation",
    )
