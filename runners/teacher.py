"""Trains a teacher with cross-entropy, alone or under an augmentation, and writes its weights and its card.

python -m runners.teacher --dataset cifar100 --data FOLDER --arch resnet20 --out resnet20.safetensors
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kdstats import schemes
from kdstats.allocator import keep_pages
from kdstats.console import run_program
from kdstats.errors import UsageError
from kdstats.teacher import architectures
from kdstats.teacher.device import pick_device
from runners import recipes
from runners.selection_flags import add_selection, selection_of
from runners.training.teacher_training import TARGETS, Augmented, check_target, train


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m runners.teacher", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--dataset", default="digits", help="data set to train on (default: digits)")
    parser.add_argument("--data", type=Path, help="folder with its files, where it is not embedded")
    add_selection(parser, val_split=False)  # the last epoch is kept: there is nothing to choose
    parser.add_argument(
        "--arch",
        default="resnet8",
        metavar="NAME",
        help="network: a field name, torchvision:NAME, timm:NAME or package.module:factory (default: resnet8)",
    )
    parser.add_argument("--recipe", default=None, help=f"one of {', '.join(recipes.names())}")
    parser.add_argument("--epochs", type=int, help="another number of epochs; milestones scale with it")
    parser.add_argument(
        "--scheme",
        metavar="NAME",
        help="augmentation whose views replace the originals, e.g. full_mixup@mixkd (default: none)",
    )
    parser.add_argument(
        "--draws",
        choices=schemes.GRANULARITIES,
        help="one draw per batch or per sample (default: as the scheme's preset says, else batch)",
    )
    parser.add_argument(
        "--targets",
        choices=TARGETS,
        help="what views are taught by: their λ-mixed labels, the only targets without a teacher (default: labels)",
    )
    parser.add_argument("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda or cuda:N")
    parser.add_argument("--seed", type=int, default=0, help="seed of initialisation, order and augmentation")
    parser.add_argument("--out", type=Path, required=True, help="weights file to write, *.safetensors")
    return parser


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    args = _parser().parse_args(argv)
    keep_pages()
    check_target(args.out)
    if args.scheme is None and (args.draws or args.targets):
        raise UsageError("--draws and --targets belong to views; add --scheme NAME")
    device = pick_device(args.device)
    architectures.check(args.arch)  # before the images are read, which may take minutes
    if args.scheme is not None:
        schemes.record(args.scheme)
    recipe = recipes.get(args.recipe or ("digits" if args.dataset == "digits" else "cifar-short"))
    selection = selection_of(args)
    splits = selection.splits().to(device)
    recipe = recipe.with_epochs(args.epochs)
    card = train(
        args.arch,
        splits.train,
        splits.test,
        recipe.on_this_machine(),
        args.seed,
        args.out,
        augmented=None if args.scheme is None else Augmented(args.scheme, args.draws),
        asked=selection,
    )
    print(
        f"{args.out}: {card['test_accuracy']:.2%} test accuracy, loss {card['test_loss']:.4f}, sha256 {card['sha256']}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_program("runners.teacher", main, "the same command continues after the last whole epoch"))
