"""CutMixPick and its generalisation: draw the base scheme several times, keep the views worth most."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Scheme, Scorer

Score = Callable[[Tensor, Tensor, "dict[str, Scorer | None]", float], Tensor]


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax, nats, ``[B]``; float32 whatever the precision of the logits."""
    log_p = torch.log_softmax(logits.float(), dim=1)
    return -(log_p.exp() * log_p).sum(1)


def _ask(networks: dict[str, Scorer | None], role: str, images: Tensor) -> Tensor:
    network = networks[role]
    if network is None:
        raise UsageError(f"picking by the {role} needs a {role}")
    return network(images)


def _teacher_entropy(
    pool: Tensor, originals: Tensor, networks: dict[str, Scorer | None], tau: float
) -> Tensor:
    return entropy(_ask(networks, "teacher", pool))


def _student_entropy(
    pool: Tensor, originals: Tensor, networks: dict[str, Scorer | None], tau: float
) -> Tensor:
    return entropy(_ask(networks, "student", pool))


def _kl(pool: Tensor, originals: Tensor, networks: dict[str, Scorer | None], tau: float) -> Tensor:
    log_t = torch.log_softmax(_ask(networks, "teacher", pool).float() / tau, dim=1)
    log_s = torch.log_softmax(_ask(networks, "student", pool).float() / tau, dim=1)
    return (log_t.exp() * (log_t - log_s)).sum(1)


def _dissimilarity(pool: Tensor, originals: Tensor, networks: dict[str, Scorer | None], tau: float) -> Tensor:
    views = torch.softmax(_ask(networks, "teacher", pool).float(), dim=1)
    base = torch.softmax(_ask(networks, "teacher", originals).float(), dim=1)
    return torch.cdist(views, base).square().min(dim=1).values


CRITERIA: dict[str, tuple[Score, frozenset[str]]] = {
    "teacher": (_teacher_entropy, frozenset({"teacher"})),
    "student": (_student_entropy, frozenset({"student"})),
    "kl": (_kl, frozenset({"teacher", "student"})),
    "dissimilarity": (_dissimilarity, frozenset({"teacher"})),
}


MEANINGS = {
    "teacher": "entropy of the teacher's softmax",
    "student": "entropy of the student's softmax",
    "kl": "KL(teacher ‖ student)",
    "dissimilarity": "squared distance to the nearest original's teacher probabilities",
}


class Pick(Scheme):
    """Data picking (Wang et al. 2022, CutMixPick; Good-DA-in-KD ``cutmix_pick``).

    The base scheme is drawn ``runs`` times on the same batch; of the pool of ``runs · B`` views the B with the
    highest score are kept, in ascending order of score. ``n_pick`` keeps another number; the published code keeps
    64 whatever B is (``@wang2022``), which is the same at its batch size of 64. A pool smaller than ``n_pick`` is
    kept whole.

    Criteria, all computed without gradient: ``teacher`` and ``student`` are the entropy of the network's
    softmax at T = 1; ``kl`` is KL(teacher ‖ student) at temperature ``tau`` (4 in the paper); ``dissimilarity``
    is the smallest squared L2 distance between the view's teacher probabilities and those of any original.
    """

    def __init__(
        self,
        name: str,
        base: Scheme,
        *,
        criterion: str = "teacher",
        runs: int = 2,
        tau: float = 4.0,
        n_pick: int | None = None,
    ) -> None:
        super().__init__(name, base.draws, base.space)
        if criterion not in CRITERIA:
            raise unknown("picking criterion", criterion, CRITERIA)
        if runs < 2:
            raise UsageError(f"{name}: picking needs at least 2 runs of {base.name}, not {runs}")
        if not tau > 0:
            raise UsageError(f"{name}: the temperature tau is positive, not {tau}")
        if n_pick is not None and n_pick < 1:
            raise UsageError(f"{name}: n_pick counts the views to keep, not {n_pick}")
        if base.history:
            raise UsageError(
                f"{name}: {base.name} pastes the views of the batch before, and here several compete"
            )
        self.base, self.criterion, self.runs, self.tau, self.n_pick = base, criterion, runs, tau, n_pick
        self._score, needs = CRITERIA[criterion]
        self.needs = needs | base.needs
        self.least, self.mixes, self.by_position = base.least, base.mixes, base.by_position

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        raise UsageError(f"{self.name} decides by looking at views; use apply()")

    def _choose(
        self, images: Tensor, ids: Tensor, gen: torch.Generator, networks: dict[str, Scorer | None]
    ) -> Draw:
        parts = tuple(self.base._choose(images, ids, gen, networks) for _ in range(self.runs))
        pool = torch.cat([self.base._render(images, part) for part in parts])
        with torch.no_grad():
            score = self._score(pool, images, networks, self.tau)
        # A stable sort: ties are broken by position, so that a replay on another machine picks the same.
        picked = torch.argsort(score.cpu(), stable=True)[-(self.n_pick or len(images)) :]
        return Draw(self.name, {"picked": picked}, parts)

    def _render(self, images: Tensor, draw: Draw) -> Tensor:
        pool = torch.cat([self.base._render(images, part) for part in draw.parts])
        return pool[draw.params["picked"].to(images.device)]

    def _pairing(self, images: Tensor, draw: Draw) -> tuple[Tensor, Tensor, Tensor]:
        pairs = [self.base._pairing(images, part) for part in draw.parts]
        index, partner, lam = (torch.cat(columns) for columns in zip(*pairs, strict=True))
        picked = draw.params["picked"]
        return index[picked], partner[picked], lam[picked]

    def rules(self) -> dict[str, str]:
        """See :meth:`Scheme.rules`."""
        kept = (
            "as many as the batch has images" if self.n_pick is None else f"{self.n_pick}, or the whole pool"
        )
        said = {
            "picks": f"of {self.runs} draws of {self.base.name} the views with the highest {MEANINGS[self.criterion]}"
            + (f" at temperature {self.tau:g}" if self.criterion == "kl" else ""),
            "kept": kept,
        }
        return {**said, **{f"{self.base.name}: {key}": text for key, text in self.base.rules().items()}}
