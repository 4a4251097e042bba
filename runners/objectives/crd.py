"""CRD: contrastive representation distillation with memory banks."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdstats.errors import UsageError
from runners.objectives.card import Weights
from runners.objectives.memory_bank import Integers, MemoryBank, Register
from runners.objectives.objective import Objective, Setup
from runners.objectives.outputs import Outputs, numbers_in
from runners.objectives.parameters import positive, whole

_EPS = 1e-7
_SEEDS = 2**62


class CRD(Objective):
    """``1/B Σ_n Σ_anchor [ −log P⁺/(P⁺ + K/N) − Σ_K log (K/N)/(P⁻ + K/N) ]``, ``P = exp(⟨e, v⟩/τ) / Z``.

    e are unit embeddings of pooled vectors in 128 numbers, v vectors of a bank with one row per training image.
    Student embeddings are held against the teacher's bank and the other way round: the parts ``student`` and
    ``teacher``. Z, one per direction, is fixed by the first batch (mean × N). The positive is the image itself
    (mode ``exact``), negatives are K = 16384 images of other classes, without replacement where there are
    enough. After the loss each bank takes ``v ← unit(½ v + ½ e)``. Both embeddings are trained; banks are not.

    Draws come from a generator of its own, seeded in :meth:`build` and kept in the state. Every call in training
    mode moves the banks, so call it once per step. In several processes each would have banks of its own: use one.
    A mixed view counts as the image that it is based on.

    Source: Tian, Krishnan & Isola, ICLR 2020; RepDistiller (``crd``: ``nce_k`` 16384, ``nce_t`` 0.07, ``nce_m``
    0.5, ``feat_dim`` 128, β = 0.8).

    Args:
        k: Negatives per image (K).
        temperature: τ.
        momentum: Share of the old vector in an update.
        dim: Numbers in an embedding.
    """

    name = "crd"
    formula = "−log P⁺/(P⁺+K/N) − Σ_K log (K/N)/(P⁻+K/N), both anchors, banks of N × 128, K = 16384, τ = 0.07"
    source = "Tian et al. 2020; RepDistiller"
    weights = Weights(1, 0, 0.8)
    needs = frozenset({"features", "sample_id", "modules"})
    separable = True
    renamed: ClassVar[dict[str, str]] = {
        "nce_k": "k",
        "nce_t": "temperature",
        "nce_m": "momentum",
        "feat_dim": "dim",
    }

    def __init__(
        self, k: int = 16384, temperature: float = 0.07, momentum: float = 0.5, dim: int = 128
    ) -> None:
        super().__init__()
        positive(self.name, temperature=temperature)
        whole(self.name, k=k, dim=dim)
        if not 0 <= momentum < 1:
            raise UsageError(f"{self.name}: momentum lies in [0, 1), not {momentum}")
        self.k, self.temperature, self.momentum, self.dim = k, temperature, momentum, dim
        self._generator = torch.Generator()

    def _build(self, setup: Setup) -> None:
        if setup.train_labels is None:
            raise UsageError(
                f"{self.name} draws negatives of other classes: build(…, train_labels=) needs the classes of all "
                "training images"
            )
        self.embed_student = nn.Linear(numbers_in(setup.student_shapes[-1]), self.dim)
        self.embed_teacher = nn.Linear(numbers_in(setup.teacher_shapes[-1]), self.dim)
        self.register = Register(self.name, setup.train_labels, setup.train_ids)
        n = len(setup.train_labels)
        self.student_bank = MemoryBank(n, self.dim, self.momentum)
        self.teacher_bank = MemoryBank(n, self.dim, self.momentum)
        self._generator.manual_seed(int(torch.randint(_SEEDS, ())))

    def _terms(self, o: Outputs) -> dict[str, Tensor]:
        s, t = o.vectors()
        student = F.normalize(self.embed_student(s), dim=1)
        teacher = F.normalize(self.embed_teacher(t), dim=1)
        own = self.register.rows(o.ids)
        columns = torch.from_numpy(np.concatenate([own[:, None], self.draw(own)], axis=1)).to(s.device)
        terms = {
            "student": self._noise_contrast(self.teacher_bank, student, columns),
            "teacher": self._noise_contrast(self.student_bank, teacher, columns),
        }
        if self.training:
            self.student_bank.update(columns[:, 0], student)
            self.teacher_bank.update(columns[:, 0], teacher)
        return terms

    def draw(self, rows: Integers) -> Integers:
        """``[B, K]`` rows of the negatives of the images in ``rows``; takes one number from the generator.

        On the CPU, so that the draws do not depend on the device: numpy chooses without replacement in a tenth
        of the time that sorting random keys takes.
        """
        seed = int(torch.randint(_SEEDS, (), generator=self._generator))
        return self.register.negatives(rows, self.k, np.random.default_rng(seed))

    def _noise_contrast(self, bank: MemoryBank, embeddings: Tensor, columns: Tensor) -> Tensor:
        """The loss of each image, ``[B]``; the first of ``columns`` is the positive."""
        log_p = bank.log_scores(embeddings, columns, self.temperature)
        noise = self.k / len(bank.vectors)
        log_sum = (log_p.exp() + (noise + _EPS)).log()
        positive = log_p[:, 0] - log_sum[:, 0]
        negatives = math.log(noise) - log_sum[:, 1:]
        return -(positive + negatives.sum(1))

    def _memory(self) -> dict[str, Any]:
        return {"generator": self._generator.get_state()}

    def _remember(self, state: dict[str, Any]) -> None:
        self._generator.set_state(state["generator"].cpu())
