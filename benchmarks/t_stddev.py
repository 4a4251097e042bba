"""T. stddev of nine schemes: the time of the published protocol as released, and ours to intervals at least as narrow.

python -m benchmarks.t_stddev --data FOLDER --out benchmarks/results

The published protocol makes ten epochs for each scheme, one scheme after the other: in every step two passes of the
teacher and two of a student that it does not need, float32, NCHW. A few steps of each scheme are timed, before and after
ours runs, and stand for all of them; views are made by our schemes on both sides, and images lie in memory. The width
of its interval comes from its first pools, scaled to all of them; ours goes on until every scheme's interval is as narrow
as the narrowest of those. Ours asks the student too, for the covariance of the cross-entropy and to pick.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

from benchmarks.training import ratio
from kdstats import models, schemes
from kdstats.allocator import keep_pages
from kdstats.data import LabelledImages, Selection
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import epoch_order, view_generator
from kdstats.estimators.layout import PoolLayout
from kdstats.provenance import provenance
from kdstats.teacher.evaluate import measure
from kdstats.teacher.evaluation import Evaluation
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network

BATCH, EPOCHS = 64, 10
TEACHER = Path(__file__).parents[1] / "reports" / "evidence" / "cifar100-resnet20" / "teacher.safetensors"
STUDENT = "resnet8"
CPU = torch.device("cpu")


def plain_network(arch: str, like: LabelledImages, weights: dict[str, Tensor] | None = None) -> Any:
    """Eager, float32, NCHW, gradients off, as ``--fix_student`` runs both networks."""
    net = models.build(arch, like.classes, like.img_size)
    if weights is not None:
        net.load_state_dict(weights)
    return net.eval().requires_grad_(False)


class Published:
    """Steps of the released loop under one scheme."""

    def __init__(self, name: str, train: LabelledImages, teacher: Any, student: Any) -> None:
        self.train, self.teacher, self.student = train, teacher, student
        self.scheme = schemes.get(name, space=schemes.PixelSpace(train.mean, train.std))
        self.base = StandardAugmentation(train.base)

    @torch.no_grad()
    def block(self, steps: int) -> float:
        """Seconds per step."""
        chunks = torch.split(epoch_order(0, 0, len(self.train))[: steps * BATCH], BATCH)
        held: list[Tensor] = []
        means = []
        began = time.perf_counter()
        for step, (pixels, labels, ids) in enumerate(self.train.batches(chunks, self.base, 0, 0)):
            x = self.train.normalise(pixels)
            view = self.scheme.apply(
                x,
                labels,
                ids,
                generator=view_generator(0, "batch", 0, step),
                teacher=self.teacher,
                student=self.student,
            ).images
            said = [self.teacher(x), self.teacher(view)]
            self.student(x)
            self.student(view)
            held += [torch.softmax(logits, 1) for logits in said]
            if len(held) == 10:
                means.append(torch.cat(held).mean(0))
                if len(means) > 1:  # of all pools so far, as it is printed after every pool
                    torch.stack(means).std(0).mean()
                held = []
        return (time.perf_counter() - began) / steps


def widths(found: Evaluation) -> dict[str, float]:
    """Relative half-width of every scheme's interval."""
    return {r.scheme: math.log(r.t_stddev.high / r.t_stddev.low) / 2 for r in found.results}


def table(found: dict[str, Any], facts: dict[str, Any]) -> str:
    """What was measured, for people."""
    steps, (middle, low, high) = found["steps"], found["ratio"]
    lines = [
        "# T. stddev of nine schemes",
        "",
        f"CIFAR-100, resnet20 (the student: {STUDENT}), {facts['threads']} threads, torch {facts['torch']}.",
        f"The published protocol, {steps:,} steps a scheme, is reckoned from blocks of {found['block']} steps before and",
        f"after ours, and its half-widths from its first {found['pools']} pools.",
        "",
        "| scheme | published: s a step | hours | half-width | ours: half-width | batches | teacher passes, images |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, seconds in found["seconds"].items():
        row, step = found["ours"][name], median(seconds)
        lines.append(
            f"| {name} | {step:.3f} | {step * steps / 3600:.2f} | ±{found['widths'][name]:.2%} | "
            f"±{row['half_width']:.2%} | {row['batches']:,} | {row['forwards']:,} |"
        )
    lines += [
        "",
        f"Published {found['published_seconds'] / 3600:.2f} h, ours {found['our_seconds'] / 60:.1f} min for all nine to "
        f"±{found['tol']:.2%} or narrower;",
        f"the teacher answered to {found['originals_forwards']:,} originals beside the views.",
        "",
        f"**{middle:.1f}x** ({low:.1f}–{high:.1f} over the blocks). Target 25x.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--block", type=int, default=15)
    parser.add_argument("--rounds", type=int, default=3, help="blocks of each scheme, before ours and after")
    parser.add_argument("--pools", type=int, default=60, help="of the published protocol, for its width")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    args = parser.parse_args()
    keep_pages()
    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    selection = Selection("cifar100", args.data, None, None, None)
    train, test = selection.train(), selection.test()
    teacher = load_network(TEACHER, None, train, CPU)
    net = plain_network(STUDENT, train)
    student = Network(net, STUDENT, STUDENT, "", "untrained")
    names = list(schemes.members("wang2022"))
    layout = PoolLayout.of(len(train), BATCH, 5, EPOCHS)
    steps = EPOCHS * -(-len(train) // BATCH)

    sample = measure(names, train, test, teacher, student, protocol="wang2022", pools=args.pools)
    aimed = {name: width * math.sqrt(args.pools / layout.pools) for name, width in widths(sample).items()}
    tol = min(aimed[name] for name in names)
    print(f"published half-widths {aimed}; ours to ±{tol:.2%}", flush=True)

    plain = plain_network(
        "resnet20", train, {k: v.contiguous() for k, v in teacher.model.state_dict().items()}
    )
    loops = {name: Published(name, train, plain, plain_network(STUDENT, train)) for name in names}
    seconds: dict[str, list[float]] = {name: [] for name in names}

    def blocks() -> None:
        for _ in range(args.rounds):
            for name, loop in loops.items():
                seconds[name].append(loop.block(args.block))

    for loop in loops.values():
        loop.block(2)  # warms up
    blocks()
    print(f"published {sum(map(median, seconds.values())) * steps:.0f} s", flush=True)
    began = time.perf_counter()
    measured = measure(names, train, test, teacher, student, tol=tol)
    our_seconds = time.perf_counter() - began
    blocks()

    reached = widths(measured)
    rows = {
        r.scheme: {
            "half_width": reached[r.scheme],
            "t_stddev": r.t_stddev.value,
            "batches": len(measured.view_sizes[r.scheme]),
            "forwards": r.teacher_forwards,
        }
        for r in measured.results
    }
    per_round = [steps * sum(column) for column in zip(*seconds.values(), strict=True)]
    found = {
        "steps": steps,
        "block": args.block,
        "pools": args.pools,
        "seconds": seconds,
        "widths": aimed,
        "tol": tol,
        "ours": rows,
        "originals_forwards": measured.originals_forwards,
        "our_seconds": our_seconds,
        "published_seconds": median(per_round),
        "ratio": ratio(per_round, [our_seconds] * len(per_round)),
    }
    facts = provenance("cpu") | {"threads": args.threads}
    text = table(found, facts)
    print(text)
    if args.out is not None:
        (args.out / "t_stddev.md").write_text(text, encoding="utf-8")
        (args.out / "t_stddev.json").write_text(json.dumps({"provenance": facts, "result": found}, indent=1))


if __name__ == "__main__":
    main()
