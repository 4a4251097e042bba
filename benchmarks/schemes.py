"""Images per second of every scheme, against torchvision v2 per image in a loop and on the whole batch.

    python benchmarks/schemes.py --out benchmarks/results

Both sides get and give the same normalised float32 tensors, and give memory of their own: where torchvision returns
its input, because nothing was drawn to be done, or one channel seen three times, it is copied, since a view that
shares memory with its original is no view to train on. Where torchvision's operation wants uint8, the same
conversion stands before and after it. Ours and theirs alternate within every round, and the ratio of a round is
taken before the median, so that a busy machine slows both. Per image: our draws are per sample, and torchvision
is called once per image. Per batch: our draws are per batch, and torchvision is called once on the batch.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torchvision.transforms import v2

from kdstats import schemes
from kdstats.allocator import keep_pages
from kdstats.draws.keys import generator
from kdstats.provenance import provenance
from kdstats.schemes.colour.blur import radius
from kdstats.tables import write

SHAPES = ((64, 3, 32, 32), (256, 3, 64, 64))
SPACE = schemes.PixelSpace((0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
TARGETS = {"per image": 20.0, "per batch": 0.8}
Step = Callable[[Tensor], Tensor]


def pixels(op: Step) -> Step:
    """``op`` on uint8, between the conversions that our scheme makes too."""
    return lambda x: SPACE.from_uint8(op(SPACE.to_uint8(x)), x.dtype)


def fractions(op: Step) -> Step:
    """``op`` on floats in [0, 1]."""
    mean, std = (torch.tensor(v).view(1, -1, 1, 1) for v in (SPACE.mean, SPACE.std))
    return lambda x: (op(((x * std) + mean).clamp_(0, 1)) - mean) / std


def mixing(op: Any) -> Step:
    """A batch transform of torchvision; per image it sees the image and one other."""

    def call(x: Tensor) -> Tensor:
        batch = x if len(x) > 1 else torch.cat([x, x.flip(3)])
        out: Tensor = op(batch, torch.zeros(len(batch), dtype=torch.int64))[0]
        return out[: len(x)]

    return call


def theirs(size: int) -> dict[str, Step]:
    """Scheme → torchvision's own."""
    black = [-m / s for m, s in zip(SPACE.mean, SPACE.std, strict=True)]
    crop, flip = v2.RandomCrop(size, padding=size // 8, fill=black), v2.RandomHorizontalFlip()
    square = (1 / 16, 1 / 16)
    return {
        "flip": flip,
        "crop": crop,
        "crop_flip": v2.Compose([crop, flip]),
        "cutout": v2.RandomErasing(p=1, scale=square, ratio=(1, 1)),
        "random_erasing": v2.RandomErasing(),
        "autoaugment": pixels(v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10)),
        "randaugment": pixels(v2.RandAugment()),
        "trivialaugment": pixels(v2.TrivialAugmentWide()),
        "augmix": pixels(v2.AugMix()),
        "color_jitter": fractions(v2.RandomApply([v2.ColorJitter(0.5, 0.5, 0.5, 0.25)], p=0.8)),
        "grayscale": v2.RandomGrayscale(0.2),
        "gaussian_blur": v2.RandomApply([v2.GaussianBlur(_kernel(size), (0.15, 1.15))], p=0.5),
        "mixup": mixing(v2.MixUp(num_classes=2)),
        "cutmix": mixing(v2.CutMix(num_classes=2)),
    }


def _kernel(size: int) -> int:
    return 2 * radius(1.15, size) + 1


def owned(op: Step) -> Step:
    """``op`` with a result of its own."""

    def call(x: Tensor) -> Tensor:
        out = op(x)
        return out.clone() if out.data_ptr() == x.data_ptr() else out.contiguous()

    return call


def ours(name: str, draws: str) -> Step:
    """Our scheme with a fresh key at every call."""
    scheme, calls = schemes.get(name, draws=draws, space=SPACE), iter(range(10**9))
    return lambda x: scheme.apply(x, generator=generator(0, next(calls))).images


def looped(op: Step) -> Step:
    """``op`` image by image."""
    return lambda x: torch.cat([op(image) for image in x.split(1)])


def seconds(step: Step, x: Tensor, least: float) -> float:
    """Mean seconds of a call over at least ``least`` seconds."""
    began, calls = time.perf_counter(), 0
    while True:
        step(x)
        calls += 1
        spent = time.perf_counter() - began
        if spent >= least:
            return spent / calls


def compare(name: str, mode: str, x: Tensor, rounds: int, least: float) -> dict[str, Any]:
    """One row: medians of ``rounds`` paired measurements, and the quartiles of their ratio."""
    reference = owned(theirs(x.shape[-1])[name])
    a = ours(name, "sample" if mode == "per image" else "batch")
    b = looped(reference) if mode == "per image" else reference
    a(x), b(x)
    pairs = [(seconds(a, x, least), seconds(b, x, least)) for _ in range(rounds)]
    ratios = sorted(slow / fast for fast, slow in pairs)
    quarter = statistics.quantiles(ratios, n=4)
    return {
        "scheme": name,
        "mode": mode,
        "batch": "x".join(map(str, x.shape)),
        "kdstats images/s": round(len(x) / statistics.median(fast for fast, _ in pairs)),
        "torchvision images/s": round(len(x) / statistics.median(slow for _, slow in pairs)),
        "ratio": round(statistics.median(ratios), 2),
        "quartiles": f"{quarter[0]:.2f} to {quarter[2]:.2f}",
        "target": TARGETS[mode],
        "met": statistics.median(ratios) >= TARGETS[mode],
    }


def main(argv: list[str] | None = None) -> int:
    """Measures, prints the table, and with --out writes it as JSON and Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.1, help="of each side in each round")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--scheme", action="append", help="only these")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args(argv)
    keep_pages()
    torch.set_num_threads(args.threads)
    rows = []
    for shape in SHAPES:
        g = torch.Generator().manual_seed(0)
        x = SPACE.from_uint8(torch.randint(0, 256, shape, generator=g, dtype=torch.uint8), torch.float32)
        for name in args.scheme or theirs(shape[-1]):
            for mode in TARGETS:
                rows.append(compare(name, mode, x, args.rounds, args.seconds))
                sys.stderr.write(f"{name:16} {mode} {rows[-1]['batch']}: {rows[-1]['ratio']}\n")
    columns = list(rows[0])
    sys.stdout.write(write("table", rows, columns))
    if args.out is not None:
        args.out.mkdir(parents=True, exist_ok=True)
        document = {"rounds": args.rounds, "threads": args.threads, **provenance("cpu"), "rows": rows}
        (args.out / "schemes.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        (args.out / "schemes.md").write_text(write("md", rows, columns), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
