"""Trains one student under one scheme; the same command goes on where a stopped one was.

python -m runners.student --scheme cutmix --student lenet8 --out runs/one
torchrun --nproc-per-node 2 -m runners.student --scheme cutmix --out runs/one
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from kdstats import models, schemes
from kdstats.allocator import keep_pages
from kdstats.console import run_program
from kdstats.data import Splits
from kdstats.errors import UsageError
from kdstats.records.lines import whole_epochs
from kdstats.records.paths import RunPaths
from kdstats.records.writer import is_complete, verify_done
from kdstats.teacher.accuracy import remembered
from kdstats.teacher.device import pick_device
from kdstats.teacher.load import load_network
from runners import objectives, recipes
from runners.claim import Claim
from runners.run_spec import ORIGINALS, PASSES, RunSpec
from runners.selection_flags import add_selection, selection_of
from runners.study_file import explain
from runners.study_file.sections import KdSection, LogSection, TeachingSection, TrainSection
from runners.training.epoch_progress import EpochProgress, first_lines
from runners.training.loop import KEEP_EVERY
from runners.training.one_run import images_of, run_spec, teacher_of
from runners.training.ranks import Ranks
from runners.training.setup import parts_of
from runners.training.switches import COMPILE, DETERMINISM
from runners.training.teaching import TEACHINGS

_OBJECTIVE = (
    f"the loss L, one of {', '.join(objectives.names())} (default: kd). All but kd were published without a term for "
    "views: give --alpha or --alpha-views, or train on the views alone with --originals replaced"
)
_STOPPED = "the same command goes on from the last state, or anew where none was kept yet"


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    keep_pages()
    args.device = Ranks.device(args.device)
    ranks = Ranks.join(pick_device(args.device))
    try:
        return _run(args, ranks)
    finally:
        ranks.leave()


def _run(args: argparse.Namespace, ranks: Ranks) -> int:
    if not args.keep_every >= 0:
        raise UsageError(f"--keep-every is a number of seconds from 0, not {args.keep_every}")
    spec = _spec(args)
    paths = spec.paths(args.out)
    splits = images_of(spec.selection, args.device)
    steps = -(-len(splits.train) // spec.recipe.batch_size)
    parts_of(spec, splits.train, ranks)  # says now what would fail later
    with (
        _owned(paths, ranks),
        EpochProgress(spec.title, spec.recipe.epochs, steps, whole_epochs(paths.metrics)) as progress,
    ):
        if ranks.main and not is_complete(paths):
            if paths.done.exists():
                progress.say(f"damaged    {verify_done(paths, quick=True)[0]}: the run is trained again")
            _introduce(spec, splits, args.device, ranks, progress)
        outcome = run_spec(
            spec,
            paths,
            args.device,
            lambda epoch, epochs, line: progress.end_epoch(epoch, line),
            on_step=progress.step,
            ranks=ranks,
            keep_every=args.keep_every,
        )
    if ranks.main:
        print(
            f"{spec.title}: test loss {outcome['test_loss_last']:.4f}, accuracy {outcome['acc_last']:.2%} "
            f"after {outcome['epochs']} epochs (best {outcome['acc_best']:.2%} in epoch {outcome['epoch_best']})\n"
            f"{paths.root}"
        )
    return 0


@contextmanager
def _owned(paths: RunPaths, ranks: Ranks) -> Iterator[None]:
    """One owner for the run: two programs at the same files would leave a mixture."""
    if not ranks.main:
        yield
        return
    paths.root.mkdir(parents=True, exist_ok=True)
    with Claim(paths.root) as claim:
        owner = claim.attempt()
        if owner is not None:
            raise UsageError(f"{paths.root} is being trained by {owner}; wait for it or choose another --out")
        yield


def _introduce(spec: RunSpec, splits: Splits, device: str, ranks: Ranks, progress: EpochProgress) -> None:
    """The first lines: what is trained, how good the teacher is, on what."""
    quality, sha, name, mode = None, "none", spec.teacher, "follows the student"
    if spec.teaching is None:
        teacher = teacher_of(spec.teacher_weights, spec.teacher_arch, spec.selection, device)
        quality, sha, name = remembered(teacher, splits.test), teacher.sha256, teacher.name
        mode = "evaluation mode, BatchNorm folded" if spec.fold_teacher else "evaluation mode"
        for note in teacher.notes:
            progress.say(f"note       {note.text}")
    for line in first_lines(
        title=spec.title,
        teacher=name,
        teacher_sha256=sha,
        teacher_accuracy=None if quality is None else quality.accuracy,
        teacher_loss=None if quality is None else quality.loss,
        recipe=spec.recipe,
        digest=spec.digest,
        device=str(splits.train.device),
        processes=ranks.world,
        mode=mode,
    ):
        progress.say(line)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m runners.student", description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--scheme", required=True, help="augmentation scheme of the views")
    add("--student", default="lenet8", help="student network (default: lenet8)")
    add("--dataset", default="digits", help="data set (default: digits)")
    add("--data", type=Path, help="folder with its files, where it is not embedded")
    add_selection(parser)
    add("--teacher", help="teacher's weights or source; the shipped digits teacher by default")
    add("--arch", help="teacher's network, unless a card beside the weights names it")
    add(
        "--teaching",
        default="fixed",
        choices=tuple(TEACHINGS),
        help="teachers that follow the student instead",
    )
    add("--then", metavar="SCHEMES", help="with --teaching: schemes of the later shifts, separated by commas")
    add("--recipe", help=f"one of {', '.join(recipes.names())}")
    add("--epochs", type=int, help="another number of epochs; milestones scale with it")
    add("--draws", default="batch", choices=schemes.GRANULARITIES, help="granularity of draws")
    add("--objective", default="kd", help=_OBJECTIVE)
    add("--param", action="append", default=[], metavar="KEY=VALUE", help="a parameter of the objective")
    add("--temperature", type=float, default=4.0, help="T of the KL terms (default: 4)")
    add("--student-temperature", type=float, help="of the student, where it is another")
    add("--gamma", type=float, help="weight of the cross-entropy (default: the objective's, 0.1 for kd)")
    add("--alpha", type=float, help="weight of each KL term (default: the objective's, 0.9 for kd)")
    add("--beta", type=float, help="weight of the objective (default: its own)")
    add("--alpha-views", type=float, help="weight of the views' KL term, where it is not alpha")
    add("--targets", default="teacher", choices=tuple(schemes.TARGETS), help="what the views are taught")
    add(
        "--originals",
        default="kept",
        choices=tuple(ORIGINALS),
        help="kept beside the views, or replaced by them",
    )
    add("--passes", default="two", choices=tuple(PASSES), help="originals and views apart, or as one batch")
    add("--determinism", default="seeded", choices=tuple(DETERMINISM), help="how far runs repeat themselves")
    add("--compile", default="off", choices=tuple(COMPILE), help="torch.compile of the student")
    add("--fold-teacher", action="store_true", help="fold the teacher's BatchNorm into its convolutions")
    add("--log-every", type=int, default=1, metavar="K", help="record the samples of every k-th epoch")
    add("--log-dtype", default="float32", choices=("float32", "float16"), help="precision of the records")
    add(
        "--keep-every",
        type=float,
        default=KEEP_EVERY,
        metavar="SECONDS",
        help="between states within an epoch",
    )
    add("--seed", type=int, default=0, help="seed (default: 0)")
    add("--device", default="auto", help="auto, cpu, cuda or cuda:N")
    add("--out", type=Path, required=True, help="folder under which the run directory is made")
    return parser


def _spec(args: argparse.Namespace) -> RunSpec:
    selection = selection_of(args)
    train_set = images_of(selection, args.device).train
    student = models.canonical(args.student)
    try:
        kd = KdSection(
            params=dict(map(_parameter, args.param)),
            **{
                name: getattr(args, name)
                for name in (
                    "objective",
                    "temperature",
                    "student_temperature",
                    "gamma",
                    "alpha",
                    "beta",
                    "alpha_views",
                    "targets",
                    "originals",
                )
            },
        )
        switches = TrainSection(
            recipe=recipes.for_student(args.recipe or _usual(args.dataset), student).name,
            epochs=args.epochs,
            **{name: getattr(args, name) for name in ("passes", "determinism", "compile", "fold_teacher")},
        )
        LogSection(every=args.log_every, dtype=args.log_dtype)
        then = None if args.then is None else tuple(args.then.split(","))
        teaching = TeachingSection(kind=args.teaching, then=then).resolve()
    except ValidationError as error:
        raise UsageError("; ".join(map(explain, error.errors()))) from None
    if teaching is None:
        found = load_network(args.teacher, args.arch, train_set, pick_device(args.device))
        teacher: dict[str, Any] = {
            "teacher": found.arch,
            "teacher_weights": found.source,
            "teacher_sha256": found.sha256,
        }
        teacher["teacher_arch"] = found.arch
    else:
        if args.teacher is not None:
            raise UsageError(
                f"--teaching {args.teaching} makes its teachers of the student; leave out --teacher"
            )
        teacher = {
            "teacher": args.teaching,
            "teacher_weights": "",
            "teacher_sha256": "",
            "teacher_arch": student,
        }
    return RunSpec(
        dataset=args.dataset,
        data=selection.path,
        dataset_sha256=train_set.digest,
        **teacher,
        student=student,
        scheme=schemes.record(args.scheme).name,
        seed=args.seed,
        recipe=switches.resolve(),
        draws=args.draws,
        log_every=args.log_every,
        log_dtype=args.log_dtype,
        img_size=selection.img_size,
        classes=selection.classes,
        per_class=selection.per_class,
        val_split=selection.val_split,
        teaching=teaching,
        **kd.fields(),
        **switches.fields(),
    )


def _usual(dataset: str) -> str:
    return "digits" if dataset == "digits" else "cifar-short"


def _parameter(text: str) -> tuple[str, Any]:
    """``key=value``, the value in TOML's spelling or a text."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"--param takes KEY=VALUE, for example nce_k=4096, not {text!r}")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


if __name__ == "__main__":
    sys.exit(run_program("runners.student", main, _STOPPED))
