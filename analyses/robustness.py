"""How well do students hold against adversarial images, and does augmentation change that?

White-box attacks with full knowledge of the attacked network, within ε in every pixel of the image in [0, 1]: FGSM
(Goodfellow et al. 2015), one step; PGD (Madry et al. 2018), steps of 2.5 ε / steps from a random start. An attack finds
a lower bound of what an attacker can do: an accuracy under attack is never a guarantee.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.figure import Figure

from analyses.inference.over_seeds import against, summarise
from analyses.inference.shares import wilson
from analyses.study import Study
from analyses.study.networks import STUDENT, TEACHER, left_out, panel
from analyses.study.traits import WEIGHTS, Need
from analyses.words import count, estimate, listed, records, sizes
from kdstats.errors import UsageError
from kdstats.figures.style import PAGE, marks, plain, style

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from kdstats.data import LabelledImages

QUESTION = "How well do students hold against adversarial images, and does augmentation change that?"
NEEDS: tuple[Need, ...] = (WEIGHTS,)
REFERENCE = "identity"
EPSILONS = (2 / 255, 8 / 255)
STEPS = 10
IMAGES = 1_000
BATCH = 250
NAMES = {"fgsm": "FGSM", "pgd": "PGD"}


@dataclass(frozen=True, slots=True)
class RobustnessFacts:
    """What the curves show, for their caption."""

    pair: str
    schemes: int
    images: int
    steps: int

    def caption(self) -> str:
        """The caption, from the fields."""
        return (
            f"Accuracy on the first {self.images:,} test images under FGSM and PGD ({self.steps} steps) against ε "
            f"({self.pair}; the teacher, dashed, and students of {count(self.schemes, 'scheme')}, mean over seeds). "
            "ε = 0: no attack. Every network is attacked with its own gradient."
        )


@dataclass(frozen=True, slots=True, eq=False)
class Robustness:
    """The result.

    Attributes:
        per_network: ``role, pair, scheme, seed, attack, epsilon, accuracy, low, high`` (Wilson, over images);
            ``attack`` is ``none`` at ε = 0.
        table: Students' means over seeds with intervals, a row per pair, scheme, attack and ε.
        differences: Against identity within seeds, per attack and ε; the intervals of a pair's schemes hold together.
        images: How many were attacked.
        steps: Of PGD.
        findings: In words.
    """

    per_network: pd.DataFrame
    table: pd.DataFrame
    differences: pd.DataFrame
    images: int
    steps: int
    findings: tuple[str, ...]

    def figure(self) -> tuple[Figure, RobustnessFacts] | None:
        """Accuracy over ε, one panel an attack; None where no network could be asked."""
        return None if self.per_network.empty else _draw(self.per_network, self.images, self.steps)


def run(
    study: Study,
    images: int | None = IMAGES,
    epsilons: tuple[float, ...] = EPSILONS,
    steps: int = STEPS,
) -> Robustness:
    """Attacks every teacher and every last student.

    Args:
        study: A study with weights.
        images: Only the first so many test images: PGD takes ``steps`` backward passes of each.
        epsilons: Radii in units of the image's range [0, 1], above 0.
        steps: Of PGD.

    Raises:
        UsageError: A radius or number of steps that is no attack.
    """
    if not epsilons or not all(0 < e < 1 for e in epsilons) or steps < 1:
        raise UsageError(f"an attack has radii in (0, 1) and 1 or more steps, not {epsilons} and {steps}")
    asked = panel(study, images)
    missing: list[str] = []
    rows: list[dict[str, Any]] = []
    n = 0
    for one in asked.each(missing):
        n = len(one.images)
        seed = study.seed_for("robustness")
        for attack, epsilon, accuracy in attacked(one.network.model, one.images, epsilons, steps, seed):
            low, high = wilson(accuracy, n)
            rows.append(one.key | {"attack": attack, "epsilon": epsilon, "accuracy": accuracy})
            rows[-1] |= {"low": low, "high": high}
    empty = pd.DataFrame()
    if not rows:
        return Robustness(empty, empty, empty, 0, steps, (asked.refused or left_out(missing)[0],))
    per_network = pd.DataFrame(rows)
    students = per_network[per_network["role"] == STUDENT]
    keys = ("pair", "scheme", "attack", "epsilon")
    table = summarise(students, ["accuracy"], keys) if len(students) else empty
    differences = _differences(students)
    findings = (*left_out(missing), *_findings(per_network, table, differences, max(epsilons)))
    return Robustness(per_network, table, differences, n, steps, findings)


def attacked(
    model: nn.Module, images: LabelledImages, epsilons: tuple[float, ...], steps: int, seed: int
) -> Iterator[tuple[str, float, float]]:
    """``(attack, ε, accuracy)`` of one network, without an attack first."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    plans = [("none", 0.0), *((name, e) for e in epsilons for name in NAMES)]
    hits = dict.fromkeys(plans, 0)
    # One channel's [mean, deviation] in the form that a normalised image is made with.
    mean, sd = (torch.tensor(v).view(1, -1, 1, 1) for v in (images.mean, images.std))
    for batch in images.in_order(BATCH):
        x = batch.images.float() / 255
        for attack, epsilon in plans:
            bad = x
            if attack == "fgsm":
                bad = step(model, x, x, batch.labels, mean, sd, epsilon, epsilon)
            elif attack == "pgd":
                bad = pgd(model, x, batch.labels, mean, sd, epsilon, steps, generator)
            with torch.no_grad():
                hits[(attack, epsilon)] += int((model((bad - mean) / sd).argmax(1) == batch.labels).sum())
    for (attack, epsilon), hit in hits.items():
        yield attack, epsilon, hit / len(images)


def step(
    model: nn.Module,
    start: Tensor,
    centre: Tensor,
    labels: Tensor,
    mean: Tensor,
    sd: Tensor,
    size: float,
    epsilon: float,
) -> Tensor:
    """One ascent of the cross-entropy by the gradient's sign, put back into the ε-ball and into [0, 1]."""
    import torch
    import torch.nn.functional as F

    x = start.detach().clone().requires_grad_(True)
    loss = F.cross_entropy(model((x - mean) / sd).float(), labels, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    moved = start + size * gradient.sign()
    return torch.clamp(torch.minimum(torch.maximum(moved, centre - epsilon), centre + epsilon), 0, 1).detach()


def pgd(
    model: nn.Module,
    x: Tensor,
    labels: Tensor,
    mean: Tensor,
    sd: Tensor,
    epsilon: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Projected gradient ascent from a random start in the ε-ball."""
    import torch

    noise = 2 * torch.rand(x.shape, generator=generator) - 1
    bad = (x + epsilon * noise).clamp(0, 1)
    for _ in range(steps):
        bad = step(model, bad, x, labels, mean, sd, 2.5 * epsilon / steps, epsilon)
    return bad


def _differences(students: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for (attack, epsilon), own in (
        students.groupby(["attack", "epsilon"], sort=False) if len(students) else ()
    ):
        for (pair, scheme), gap in against(own, "accuracy", REFERENCE).items():
            rows.append(
                {"pair": pair, "scheme": scheme, "attack": attack, "epsilon": epsilon}
                | {"difference": gap[0], "low": gap[1], "high": gap[2]}
            )
    return pd.DataFrame(rows)


def _findings(
    per_network: pd.DataFrame, table: pd.DataFrame, differences: pd.DataFrame, epsilon: float
) -> Iterator[str]:
    radius = f"ε = {epsilon * 255:.3g}/255"
    strong = (per_network["attack"] == "pgd") & (per_network["epsilon"] == epsilon)
    for row in per_network[strong & (per_network["role"] == TEACHER)].to_dict("records"):
        said = estimate(row["accuracy"], row["low"], row["high"])
        yield f"Teacher {row['scheme']}: accuracy {said} under PGD at {radius} (interval over images)."
    if len(table):
        own = table[(table["attack"] == "pgd") & (table["epsilon"] == epsilon)]
        for pair, rows in own.groupby("pair", sort=False):
            top = records(rows.sort_values("accuracy", ascending=False))[0]
            said = estimate(top["accuracy"], top["accuracy_low"], top["accuracy_high"])
            yield (
                f"{pair}: under PGD at {radius} the students of {top['scheme']} keep the highest mean accuracy, {said} "
                f"(n = {sizes([int(n) for n in rows['seeds']])} a scheme)."
            )
    if len(differences):
        own = differences[(differences["attack"] == "pgd") & (differences["epsilon"] == epsilon)]
        for pair, rows in own.groupby("pair", sort=False):
            told = rows[(rows["low"] > 0) | (rows["high"] < 0)]
            if told.empty:
                yield f"{pair}: no scheme can be told from {REFERENCE} under PGD at {radius}."
                continue
            said_ = [
                f"{row['scheme']} by {estimate(row['difference'], row['low'], row['high'])}"
                for row in told.to_dict("records")
            ]
            yield (
                f"{pair}: under PGD at {radius} accuracy differs from that of {REFERENCE} under {listed(said_)} "
                f"(intervals of {len(rows)} schemes hold together)."
            )
    masked = _masked(per_network)
    if masked:
        yield (
            f"PGD is weaker than FGSM against {listed(masked)}: gradients are of little use there, so these accuracies "
            "say little about robustness."
        )


def _masked(per_network: pd.DataFrame) -> list[str]:
    """Networks that many steps hurt less than one, beyond the noise of images."""
    ends: dict[tuple[str, float], dict[str, tuple[float, float]]] = {}
    for row in records(per_network[per_network["epsilon"] > 0]):
        student = f"{row['scheme']} ({row['pair']}, seed {row['seed']})"
        name = student if row["role"] == STUDENT else f"teacher {row['scheme']}"
        ends.setdefault((name, row["epsilon"]), {})[row["attack"]] = (row["low"], row["high"])
    return list(dict.fromkeys(name for (name, _), by in ends.items() if by["pgd"][0] > by["fgsm"][1]))


def _draw(per_network: pd.DataFrame, images: int, steps: int) -> tuple[Figure, RobustnessFacts]:
    pair = str(per_network["pair"].iloc[0])
    here = per_network[per_network["pair"] == pair]
    looks = marks(here["scheme"])
    means = here.groupby(["role", "scheme", "attack", "epsilon"], sort=False)["accuracy"].mean().reset_index()
    with style():
        figure = Figure(figsize=(PAGE * 0.75, 2.6), layout="constrained")
        axes = figure.subplots(1, len(NAMES), sharey=True)
        for ax, (attack, label) in zip(axes, NAMES.items(), strict=True):
            own = means[means["attack"].isin(("none", attack))]
            for (role, scheme), part in own.groupby(["role", "scheme"], sort=False):
                teacher = role == TEACHER
                look = looks[str(scheme)]
                part = part.sort_values("epsilon")
                ax.plot(
                    part["epsilon"] * 255,
                    part["accuracy"],
                    color="#1a1a1a" if teacher else look.color,
                    marker="o" if teacher else look.marker,
                    linestyle="--" if teacher else "-",
                    label=plain(f"teacher {scheme}" if teacher else look.text),
                )
            ax.set_title(label)
            ax.set(xlabel="ε (1/255)")
        axes[0].set(ylabel="accuracy")
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    schemes = here[here["role"] == STUDENT]["scheme"].nunique()
    return figure, RobustnessFacts(pair, int(schemes), images, steps)
