"""A training step of ours against a plain PyTorch loop of the same pair, and what recording costs.

python -m benchmarks.training --out benchmarks/results

The plain loop is the published one: eager, float32, NCHW, two passes of the teacher and two of the student, CutMix with
one box per batch, its images already in memory. Ours makes the same two student passes from the same images, with the
standard augmentation, and is timed with and without recording, and as all runs of a seed but the first make it, with the
teacher's answers to the originals read (:mod:`runners.training.shared_answers`). Blocks of steps alternate; the allocator
is set alike for all of them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from kdstats import models
from kdstats.allocator import keep_pages
from kdstats.data import ImageSet
from kdstats.provenance import provenance
from kdstats.records.recorder import Recorder
from kdstats.teacher.network import Network
from runners import recipes
from runners.run_spec import RunSpec
from runners.training.interrupts import Interrupts
from runners.training.loop import epoch_of
from runners.training.ranks import ALONE
from runners.training.setup import prepare
from runners.training.shared_answers import SharedAnswers, group_of

BATCH, CLASSES = 64, 100
# Pair, steps in a block: about as many seconds each.
PAIRS = {"resnet20/resnet8": 30, "resnet56/resnet20": 10, "wrn_40_2/wrn_16_2": 5}


def images(n: int) -> ImageSet:
    """Noise of CIFAR-100's shape: the time of a step does not depend on what is in the images."""
    g = torch.Generator().manual_seed(0)
    return ImageSet(
        name="noise",
        split="train",
        images=torch.randint(0, 256, (n, 3, 32, 32), generator=g, dtype=torch.uint8),
        labels=torch.randint(0, CLASSES, (n,), generator=g),
        sample_id=torch.arange(n),
        class_names=tuple(map(str, range(CLASSES))),
        mean=(0.5071, 0.4867, 0.4408),
        std=(0.2675, 0.2565, 0.2761),
        base="crop4+flip",
        digest="noise",
    )


def plain(pair: str, train: ImageSet) -> Callable[[], None]:
    """The published loop, a block of it per call."""
    teacher_name, student_name = pair.split("/")
    teacher = models.build(teacher_name, CLASSES, 32).eval()
    student = models.build(student_name, CLASSES, 32).train()
    optimiser = torch.optim.SGD(student.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
    x_all = train.normalise(train.images)

    def kl(s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        p = F.softmax(t / 4, 1)
        return F.kl_div(F.log_softmax(s / 4, 1), p, reduction="sum") * 16 / len(s)

    def block() -> None:
        for x, y in zip(torch.split(x_all, BATCH), torch.split(train.labels, BATCH), strict=True):
            lam = np.random.default_rng(0).beta(1, 1)
            side = int(32 * np.sqrt(1 - lam))
            v = x.clone()
            v[:, :, :side, :side] = x.roll(1, 0)[:, :, :side, :side]
            with torch.no_grad():
                t_x, t_v = teacher(x), teacher(v)
            s_x, s_v = student(x), student(v)
            loss = 0.1 * F.cross_entropy(s_x, y) + 0.9 * (kl(s_x, t_x) + kl(s_v, t_v))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            loss.item()  # the published code logs it in every step

    return block


def ours(
    pair: str, train: ImageSet, folder: Path | None, answers: Path | None = None, **switches: Any
) -> Callable[[], None]:
    """An epoch of :mod:`runners.training.loop` per call, recorded into ``folder`` if there is one."""
    teacher_name, student_name = pair.split("/")
    torch.manual_seed(0)  # every side has the same teacher
    model = models.build(teacher_name, CLASSES, 32).to(memory_format=torch.channels_last).eval()
    teacher = Network(model.requires_grad_(False), teacher_name, teacher_name, "", "")
    recipe = replace(recipes.get("crd240"), lr=0.01)
    precision = switches.pop("precision", "float32")
    spec = RunSpec(
        dataset="noise",
        data=None,
        dataset_sha256="",
        teacher=teacher_name,
        teacher_weights="",
        teacher_arch=teacher_name,
        teacher_sha256="",
        student=student_name,
        scheme="cutmix",
        seed=0,
        recipe=replace(recipe, precision=precision),
        **switches,
    )
    run = prepare(spec, train, teacher, ALONE)
    if answers is not None:
        (answers / str(group_of(spec))).mkdir(parents=True, exist_ok=True)
        run.answers = SharedAnswers(answers, spec, print)
    recorder = None if folder is None else Recorder(folder, classes=CLASSES, overwrite=True, finish=False)
    interrupts = Interrupts()

    def block() -> None:
        epoch_of(run, spec, None, train, recorder, interrupts, None, ALONE, 1e9)
        if recorder is not None:
            recorder.end_epoch()
        run.next_epoch()

    return block


def measured(pair: str, steps: int, rounds: int) -> dict[str, Any]:
    """Seconds per step of every side, block by block, sides alternating."""
    train = images(BATCH * steps)
    with tempfile.TemporaryDirectory() as folder:
        shared = Path(folder) / "answers"
        first = ours(pair, train, None, shared)
        for _ in range(rounds + 1):
            first()
        sides = {
            "plain": plain(pair, train),
            "ours": ours(pair, train, None),
            "ours, recording": ours(pair, train, Path(folder) / "a"),
            "ours, answers read, recording": ours(pair, train, Path(folder) / "e", shared),
            "ours, folded teacher, recording": ours(pair, train, Path(folder) / "b", fold_teacher=True),
            "ours, joint pass, recording": ours(pair, train, Path(folder) / "c", passes="joint"),
        }
        if torch.ops.mkldnn._is_mkldnn_bf16_supported():
            sides["ours, bf16, recording"] = ours(pair, train, Path(folder) / "d", precision="bf16")
        seconds: dict[str, list[float]] = {name: [] for name in sides}
        processor: dict[str, list[float]] = {name: [] for name in sides}
        for number in range(rounds + 1):
            for name, block in sides.items():
                began, busy = time.perf_counter(), time.process_time()
                block()
                if number:  # the first round warms up
                    seconds[name].append((time.perf_counter() - began) / steps)
                    processor[name].append((time.process_time() - busy) / steps)
    return {"pair": pair, "steps": steps, "rounds": rounds, "seconds": seconds, "processor": processor}


def ratio(above: list[float], below: list[float]) -> tuple[float, float, float]:
    """Median and quartiles of the ratios, round by round."""
    ratios = np.array(above) / np.array(below)
    low, high = np.quantile(ratios, [0.25, 0.75])
    return median(ratios.tolist()), float(low), float(high)


def table(found: list[dict[str, Any]], facts: dict[str, Any]) -> str:
    """What was measured, for people."""
    lines = [
        "# Training step",
        "",
        f"Batch {BATCH}, CutMix, {facts['threads']} threads, torch {facts['torch']}. Medians over the blocks; ratios of",
        "neighbouring blocks with quartiles, by the clock and by processor seconds of all threads, which other programs",
        "disturb less.",
        "",
        "| pair | side | ms a step | images/s | plain / side, clock | same, processor | cost of recording, processor |",
        "|---|---|---|---|---|---|---|",
    ]
    for result in found:
        seconds, processor = result["seconds"], result["processor"]
        for name, values in seconds.items():
            clock, busy = (
                "{:.2f}x ({:.2f}–{:.2f})".format(*ratio(side["plain"], side[name]))
                for side in (seconds, processor)
            )
            cost = ""
            if name == "ours, recording":
                middle, low, high = ratio(processor[name], processor["ours"])
                cost = f"{middle - 1:+.1%} ({low - 1:+.1%} … {high - 1:+.1%})"
            ms = 1e3 * median(values)
            lines.append(
                f"| {result['pair']} | {name} | {ms:.1f} | {1e3 * BATCH / ms:.0f} | {clock} | {busy} | {cost} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--pair", action="append", choices=tuple(PAIRS))
    args = parser.parse_args()
    keep_pages()
    torch.set_num_threads(args.threads)
    found = []
    for pair, steps in PAIRS.items():
        if args.pair is None or pair in args.pair:
            found.append(measured(pair, steps, args.rounds))
    facts = provenance("cpu") | {"threads": args.threads}
    text = table(found, facts)
    print(text)
    if args.out is not None:
        (args.out / "training.md").write_text(text, encoding="utf-8")
        (args.out / "training.json").write_text(json.dumps({"provenance": facts, "results": found}, indent=1))


if __name__ == "__main__":
    main()
