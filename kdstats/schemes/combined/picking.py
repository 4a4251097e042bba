"""CutMixPick and its generalisation: draw the base scheme several times, keep the views worth most."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kdstats.errors import UsageError, unknown
from kdstats.schemes.batch import Draw
from kdstats.schemes.scheme import Networks, Scheme

# Scores of the pool, and the teacher's logits of it where it was asked.
Scored = tuple[Tensor, Tensor | None]
Score = Callable[[Tensor, Tensor, Networks, float], Scored]
_MOST_RUNS = 64


def entropy(logits: Tensor) -> Tensor:
    """Entropy of the softmax, nats, ``[B]``; float32 whatever the precision of the logits."""
    log_p = torch.log_softmax(logits.float(), dim=1)
    return -(log_p.exp() * log_p).sum(1)


def _ask(networks: Networks, role: str, images: Tensor) -> Tensor:
    network = networks[role]
    if network is None:
        raise UsageError(f"picking by the {role} needs a {role}")
    return network(images)


def _teacher_entropy(pool: Tensor, originals: Tensor, networks: Networks, tau: float) -> Scored:
    logits = _ask(networks, "teacher", pool)
    return entropy(logits), logits


def _student_entropy(pool: Tensor, originals: Tensor, networks: Networks, tau: float) -> Scored:
    return entropy(_ask(networks, "student", pool)), None


def _kl(pool: Tensor, originals: Tensor, networks: Networks, tau: float) -> Scored:
    logits = _ask(networks, "teacher", pool)
    log_t = torch.log_softmax(logits.float() / tau, dim=1)
    log_s = torch.log_softmax(_ask(networks, "student", pool).float() / tau, dim=1)
    return (log_t.exp() * (log_t - log_s)).sum(1), logits


def _dissimilarity(pool: Tensor, originals: Tensor, networks: Networks, tau: float) -> Scored:
    logits = _ask(networks, "teacher", pool)
    # In double and from differences: by way of a matrix product, rounding (1e-7) would rank views that are close.
    views, base = (torch.softmax(z.double(), dim=1) for z in (logits, _ask(networks, "teacher", originals)))
    distance = torch.cdist(views, base, compute_mode="donot_use_mm_for_euclid_dist")
    return distance.min(dim=1).values.square(), logits


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
        if runs * getattr(base, "runs", 1) > _MOST_RUNS:
            raise UsageError(f"{name}: more than {_MOST_RUNS} draws of the innermost scheme are not meant")
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

    def _make(
        self, images: Tensor, ids: Tensor, gen: torch.Generator, networks: Networks
    ) -> tuple[Draw, Tensor]:
        made = [self.base._make(images, ids, gen, networks) for _ in range(self.runs)]
        pool = torch.cat([views for _, views in made])
        with torch.no_grad():
            score, asked = self._score(pool, images, networks, self.tau)
        # A stable sort: ties are broken by position, so that a replay on another machine picks the same.
        picked = torch.argsort(score.cpu(), stable=True)[-(self.n_pick or len(images)) :]
        here = picked.to(images.device)
        params = {"picked": picked} if asked is None else {"picked": picked, "teacher_logits": asked[here]}
        return Draw(self.name, params, tuple(draw for draw, _ in made)), pool[here]

    @property
    def shares_by_draw(self) -> bool:
        """See :attr:`Scheme.shares_by_draw`: only which views are picked hangs on pixels."""
        return self.base.shares_by_draw

    def shares(self, images: Tensor, draw: Draw) -> Tensor:
        """See :meth:`Scheme.shares`."""
        return torch.cat([self.base.shares(images, part) for part in draw.parts])

    def _draw_unseen(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Draw:
        drawn = [self.base._draw_unseen(images, sample_id, gen) for _ in range(self.runs)]
        return Draw(self.name, parts=tuple(drawn))

    def _answers(self, draw: Draw) -> Tensor | None:
        return draw.params.get("teacher_logits")

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
