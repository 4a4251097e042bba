"""Prints the named recipes and where their defaults come from.

python -m runners.recipes [--epochs 24]
"""

from __future__ import annotations

import argparse
import sys

from kdstats.console import run_program
from runners import recipes
from runners.recipes import Recipe

_HEADS = ("name", "epochs", "batch", "lr", "weight decay", "schedule", "milestones or warm-up", "precision")


def _cells(recipe: Recipe) -> tuple[str, ...]:
    if recipe.schedule == "step":
        when = ", ".join(map(str, recipe.milestones))
    else:
        when = f"{recipe.warmup:.0%} of the run" if recipe.warmup else "none"
    momentum = "nesterov" if recipe.nesterov else "momentum"
    numbers = (str(recipe.epochs), str(recipe.batch_size), f"{recipe.lr:g}", f"{recipe.weight_decay:g}")
    return (
        recipe.name,
        *numbers,
        f"{recipe.schedule}, {momentum} {recipe.momentum:g}",
        when,
        recipe.precision,
    )


def table(shown: list[Recipe]) -> str:
    """The recipes as aligned text, each with its source and, if its epochs were changed, what that did."""
    rows = [_HEADS, *map(_cells, shown)]
    widths = [max(len(row[k]) for row in rows) for k in range(len(_HEADS))]
    lines = ["  ".join(f"{cell:<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    out = lines[:1]
    for line, recipe in zip(lines[1:], shown, strict=True):
        out += [line, f"    {recipe.source}"]
        if told := recipes.scaling(recipe):
            out.append(f"    {told}")
    return "\n".join(out)


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runners.recipes", description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, help="show them over another number of epochs")
    args = parser.parse_args(argv)
    print(table([recipes.get(name).with_epochs(args.epochs) for name in recipes.names()]))
    return 0


if __name__ == "__main__":
    sys.exit(run_program("runners.recipes", main))
