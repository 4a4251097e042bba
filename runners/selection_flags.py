"""The flags by which programs choose images, alike in all of them."""

from __future__ import annotations

import argparse

from kdstats.data import Selection


def add_selection(parser: argparse.ArgumentParser, *, val_split: bool = True) -> None:
    """Adds ``--img-size --classes --per-class`` and, where something is chosen by images held out, ``--val-split``."""
    parser.add_argument("--img-size", type=int, metavar="N", help="bring every image to this size")
    parser.add_argument(
        "--classes",
        metavar="N|LIST|@FILE",
        help="only these classes: a number (the first ones), names, a file",
    )
    parser.add_argument(
        "--per-class", type=int, metavar="N", help="only so many training images of each class"
    )
    if val_split:
        parser.add_argument(
            "--val-split",
            type=float,
            metavar="SHARE",
            help="share of the training images held out to choose the best epoch (default: test images choose it)",
        )


def selection_of(args: argparse.Namespace) -> Selection:
    """The images that the flags, ``--dataset`` and ``--data`` ask for."""
    path = None if args.data is None else str(args.data)
    held = getattr(args, "val_split", None)
    return Selection(args.dataset, path, args.img_size, args.classes, args.per_class, held)
