"""Trains one student under one scheme.

python -m runners.student --scheme cutmix --student lenet8 --out runs/one
"""

from __future__ import annotations

import argparse
import functools
import sys
from pathlib import Path
from typing import Any

from kdstats import models, schemes
from kdstats.allocator import keep_pages
from kdstats.console import run_program
from kdstats.data import Selection, Splits
from kdstats.records.paths import RunPaths
from kdstats.records.writer import is_complete, read_done
from kdstats.teacher.evaluate import pick_device
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network
from runners import recipes
from runners.loop import EpochDone, train_student
from runners.run_spec import RunSpec
from runners.selection_flags import add_selection, selection_of


@functools.lru_cache(maxsize=4)
def _images(selection: Selection, device: str) -> Splits:
    """A worker runs many students on the same data; it is read once."""
    return selection.splits().to(pick_device(device))


@functools.lru_cache(maxsize=4)
def _teacher(weights: str, arch: str, selection: Selection, device: str) -> Network:
    return load_network(weights, arch, _images(selection, device).train, pick_device(device))


def run_spec(
    spec: RunSpec, paths: RunPaths, device: str = "auto", on_epoch: EpochDone | None = None
) -> dict[str, Any]:
    """Carries out ``spec`` unless it is complete already; returns its outcome."""
    if is_complete(paths):
        outcome: dict[str, Any] = read_done(paths)["extra"]["outcome"]
        return outcome
    teacher = _teacher(spec.teacher_weights, spec.teacher_arch, spec.selection, device)
    images = _images(spec.selection, device)
    return train_student(spec, paths, images.train, images.test, teacher, on_epoch, images.validation)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runners.student", description=__doc__.splitlines()[0])
    parser.add_argument("--scheme", required=True, help="augmentation scheme of the views")
    parser.add_argument("--student", default="lenet8", help="student network (default: lenet8)")
    parser.add_argument("--dataset", default="digits", help="data set (default: digits)")
    parser.add_argument("--data", type=Path, help="folder with its files, where it is not embedded")
    add_selection(parser)
    parser.add_argument(
        "--teacher", type=Path, help="teacher's weights; the shipped digits teacher by default"
    )
    parser.add_argument("--arch", help="teacher's network, unless a card beside the weights names it")
    parser.add_argument("--recipe", help=f"one of {', '.join(recipes.names())}")
    parser.add_argument("--epochs", type=int, help="another number of epochs")
    parser.add_argument(
        "--draws", default="batch", choices=schemes.GRANULARITIES, help="granularity of draws"
    )
    parser.add_argument("--temperature", type=float, default=4.0, help="T of the KL terms (default: 4)")
    parser.add_argument("--gamma", type=float, default=0.1, help="weight of the cross-entropy (default: 0.1)")
    parser.add_argument("--alpha", type=float, default=0.9, help="weight of each KL term (default: 0.9)")
    parser.add_argument(
        "--targets", default="teacher", choices=tuple(schemes.TARGETS), help="what the views are taught"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed (default: 0)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder under which the run directory is made"
    )
    args = parser.parse_args(argv)
    keep_pages()
    args.student = models.canonical(args.student)
    selection = selection_of(args)
    train_set = _images(selection, args.device).train
    teacher = load_network(args.teacher, args.arch, train_set, pick_device(args.device))
    recipe = recipes.get(args.recipe or ("digits" if args.dataset == "digits" else "cifar-short"))
    spec = RunSpec(
        dataset=args.dataset,
        data=selection.path,
        dataset_sha256=train_set.digest,
        teacher=teacher.arch,
        teacher_weights=teacher.source,
        teacher_arch=teacher.arch,
        teacher_sha256=teacher.sha256,
        student=args.student,
        scheme=schemes.record(args.scheme).name,
        seed=args.seed,
        recipe=recipe.with_epochs(args.epochs).on_this_machine(),
        draws=args.draws,
        temperature=args.temperature,
        gamma=args.gamma,
        alpha=args.alpha,
        targets=args.targets,
        img_size=selection.img_size,
        classes=selection.classes,
        per_class=selection.per_class,
        val_split=selection.val_split,
    )
    paths = spec.paths(args.out)
    outcome = run_spec(spec, paths, args.device, _say)
    print(
        f"{spec.title}: test loss {outcome['test_loss_last']:.4f}, accuracy {outcome['acc_last']:.2%} "
        f"after {outcome['epochs']} epochs (best {outcome['acc_best']:.2%} in epoch {outcome['epoch_best']})\n"
        f"{paths.root}"
    )
    return 0


def _say(epoch: int, epochs: int, line: dict[str, Any]) -> None:
    sys.stderr.write(
        f"epoch {epoch}/{epochs}  train loss {line['train_loss']:.4f}  test loss {line['test_loss']:.4f}  "
        f"accuracy {line['test_acc']:.2%}  {line['seconds']:.1f} s\n"
    )
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(run_program("runners.student", main, "the same command continues after the last whole epoch"))
