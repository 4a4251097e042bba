"""Decoding and caching CIFAR-100, and epochs per second of the images in memory against torchvision under DataLoader.

    python benchmarks/data.py --data ../shared/data/cifar100 --out benchmarks/results

Start: the training split without a cache, with one, and the same arrays by a bare ``np.load`` without any check.
Epochs: one shuffled pass with the standard augmentation (per image: zero padding 4, random crop, random flip) to
normalised float32 batches and their labels. Theirs is what the field's training loops do: a Dataset of Pillow images
with RandomCrop, RandomHorizontalFlip, ToTensor and Normalize under DataLoader, whose workers are started beforehand and
kept, so that their start is not counted. Both sides take the same decoded pixels and alternate within every round; the
ratio of a round is taken before the median, so that a busy machine slows both.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from kdstats import data
from kdstats.allocator import keep_pages
from kdstats.data import ImageSet
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order
from kdstats.provenance import provenance
from kdstats.tables import write

TARGET = 20.0


class Pictures(Dataset[tuple[Tensor, int]]):
    """The images as torchvision's CIFAR100 holds them: arrays ``[H, W, 3]`` that become Pillow images one by one."""

    def __init__(self, images: ImageSet) -> None:
        self.arrays = np.ascontiguousarray(images.images.permute(0, 2, 3, 1).numpy())
        self.labels = images.labels.tolist()
        self.transform = transforms.Compose(
            [
                transforms.RandomCrop(32, padding=4),
                transforms.RandomHorizontalFlip(),
                transforms.ToTensor(),
                transforms.Normalize(images.mean, images.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, at: int) -> tuple[Tensor, int]:
        return self.transform(Image.fromarray(self.arrays[at])), self.labels[at]


def ours(images: ImageSet, batch: int) -> Callable[[int], Iterable[tuple[Tensor, Tensor]]]:
    """An epoch of the images in memory, as :mod:`kdstats.teacher.probe` and the runners go through them."""
    standard = StandardAugmentation(images.base)

    def epoch(number: int) -> Iterable[tuple[Tensor, Tensor]]:
        for at in epoch_order(0, number, len(images)).split(batch):
            pixels, labels, ids = images.rows(at)
            yield images.normalise(standard.apply(pixels, ids, 0, number)), labels

    return epoch


def seconds(epoch: Iterable[tuple[Tensor, Tensor]], expected: int) -> float:
    """Of one epoch; every batch is received, and all images are counted."""
    began, seen = time.perf_counter(), 0
    for pixels, labels in epoch:
        seen += len(labels)
        assert pixels.dtype == torch.float32 and pixels.shape[1:] == (3, 32, 32)  # noqa: PT018 - not a test
    assert seen == expected
    return time.perf_counter() - began


def compare(images: ImageSet, batch: int, workers: int, rounds: int, epochs: int) -> dict[str, Any]:
    """One row: medians of ``rounds`` paired epochs, and the quartiles of their ratio."""
    mine = ours(images, batch)
    loader = DataLoader(
        Pictures(images), batch, shuffle=True, num_workers=workers, persistent_workers=workers > 0
    )
    seconds(mine(0), len(images)), seconds(loader, len(images))
    pairs = []
    for number in range(rounds):
        fast = statistics.mean(seconds(mine(1 + number * epochs + e), len(images)) for e in range(epochs))
        pairs.append((fast, seconds(loader, len(images))))
    ratios = sorted(slow / fast for fast, slow in pairs)
    quarter = statistics.quantiles(ratios, n=4)
    whole = 50_000 / len(images)
    return {
        "batch": batch,
        "workers": workers,
        "kdstats epochs/s": round(1 / statistics.median(fast for fast, _ in pairs) / whole, 3),
        "DataLoader epochs/s": round(1 / statistics.median(slow for _, slow in pairs) / whole, 4),
        "ratio": round(statistics.median(ratios), 1),
        "quartiles": f"{quarter[0]:.1f} to {quarter[2]:.1f}",
        "target": TARGET,
        "met": statistics.median(ratios) >= TARGET,
    }


def start(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Seconds until the training split is in memory: decoded, from the cache, and by a bare load."""
    found: dict[str, list[float]] = {"decoded and cached": [], "from the cache": [], "bare np.load": []}
    before = os.environ.get("KDSTATS_HOME")
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as home:
            os.environ["KDSTATS_HOME"] = home
            for what in found:
                began = time.perf_counter()
                if what == "bare np.load":
                    np.load(next(Path(home).rglob("images.npy")))
                else:
                    images = data.load("cifar100", "train", folder)
                found[what].append(time.perf_counter() - began)
    os.environ.pop("KDSTATS_HOME") if before is None else os.environ.update(KDSTATS_HOME=before)
    return [
        {
            "start": what,
            "seconds": round(statistics.median(taken), 2),
            "images/s": round(len(images) / statistics.median(taken)),
        }
        for what, taken in found.items()
    ]


def main(argv: list[str] | None = None) -> int:
    """Measures, prints both tables, and with --out writes them as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "cifar100"
    )
    parser.add_argument("--images", type=int, default=10_000, help="of the training images, in each epoch")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument(
        "--epochs", type=int, default=3, help="of ours in each round; theirs take long enough"
    )
    parser.add_argument("--batch", type=int, action="append", help="[default: 64 and 128]")
    parser.add_argument("--workers", type=int, action="append", help="[default: 0, 2 and 8]")
    parser.add_argument("--threads", type=int, default=1, help="of torch in this process")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    keep_pages()
    torch.set_num_threads(args.threads)
    starts = start(args.data, 3)
    with tempfile.TemporaryDirectory() as home:
        os.environ.setdefault("KDSTATS_HOME", home)
        images = data.load("cifar100", "train", args.data).head(args.images)
    rows = []
    for batch in args.batch or (64, 128):
        for workers in args.workers or (0, 2, 8):
            rows.append(compare(images, batch, workers, args.rounds, args.epochs))
            sys.stderr.write(f"batch {batch}, {workers} workers: {rows[-1]['ratio']}\n")
    tables = [(starts, list(starts[0])), (rows, list(rows[0]))]
    sys.stdout.write("\n".join(write("table", *table) for table in tables))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        setting = {"images": args.images, "rounds": args.rounds, "threads": args.threads}
        document = {**setting, **provenance("cpu"), "start": starts, "epochs": rows}
        (args.out / "data.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        text = "\n".join(write("md", *table) for table in tables)
        (args.out / "data.md").write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
