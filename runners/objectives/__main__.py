"""The objectives there are: formula, published weights, what each needs.

python -m runners.objectives [--format table|json|csv|md|latex]
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

from kdstats.console import run_program
from kdstats.tables import FORMATS, check_format, write
from runners.objectives import ALIASES, names, objective_class
from runners.objectives.card import NEEDS

ON_SCREEN = ("name", "gamma", "alpha", "beta", "per_image", "needs", "formula")
COLUMNS = (*ON_SCREEN, "source", "aliases")

ALSO = """gamma, alpha, beta: published weights of γ CE + α KL + β L; a kd or ce row is the first two summands alone.
per_image: whether each image has a loss of its own. f[i]: features of model(x, features=True), f[-1] the pooled vector.
--format json or csv adds the sources and the aliases."""


def rows() -> list[dict[str, Any]]:
    """One row per objective."""
    found = []
    for name in names():
        cls = objective_class(name)
        found.append(
            {
                "name": name,
                "aliases": ", ".join(alias for alias, of in ALIASES.items() if of == name),
                "gamma": cls.weights.gamma,
                "alpha": cls.weights.alpha,
                "beta": cls.weights.beta,
                "per_image": "yes" if cls.separable else "no",
                "needs": ", ".join(text for key, text in NEEDS.items() if key in cls.needs),
                "formula": cls.formula,
                "source": cls.source,
            }
        )
    return found


def main(argv: list[str] | None = None) -> int:
    """Prints the table; weights are those of ``γ CE + α KL + β L``."""
    parser = argparse.ArgumentParser(prog="python -m runners.objectives", description=__doc__)
    parser.add_argument("--format", default="table", help=", ".join(FORMATS))
    fmt = check_format(parser.parse_args(argv).format)
    numbers = dict.fromkeys(("gamma", "alpha", "beta"), "{:g}".format)
    print(write(fmt, rows(), ON_SCREEN if fmt == "table" else COLUMNS, formats=numbers), end="")
    if fmt == "table":
        print(f"\n{ALSO}")
    return 0


if __name__ == "__main__":
    sys.exit(run_program("runners.objectives", main))
