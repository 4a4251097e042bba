"""What two networks say of one batch, as an objective reads it: checked, float32, the teacher without gradient."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kdstats.errors import CheckError, UsageError
from kdstats.schemes import AugmentedBatch

Shape = tuple[int, ...]


def shapes_of(features: Sequence[Tensor]) -> tuple[Shape, ...]:
    """Shapes of the features of one image, ``(D, H, W)`` but for the last, ``(D,)``."""
    return tuple(tuple(f.shape[1:]) for f in features)


@dataclass(frozen=True)
class Outputs:
    """One batch. Feature lists are those of ``model(x, features=True)``: stem, one map per stage, pooled vector.

    Attributes:
        objective: Name of the objective that reads them, for messages.
        student_logits: ``[B, C]`` float32, with gradient.
        teacher_logits: ``[B, C]`` float32 without gradient, or None.
        labels: ``[B]`` int64 classes or ``[B, C]`` shares that sum to 1, or None.
        student_features: As the network gave them, or None.
        teacher_features: Likewise.
        sample_id: ``[B]`` int64, or None.
        view: What the images are made of when they are views of a scheme; None for originals.
    """

    objective: str
    student_logits: Tensor
    teacher_logits: Tensor | None = None
    labels: Tensor | None = None
    student_features: Sequence[Tensor] | None = None
    teacher_features: Sequence[Tensor] | None = None
    sample_id: Tensor | None = None
    view: AugmentedBatch | None = None

    @property
    def classes(self) -> int:
        """C."""
        return self.student_logits.shape[1]

    @property
    def teacher(self) -> Tensor:
        """Teacher logits; the objective has said that it needs them."""
        if self.teacher_logits is None:
            raise UsageError(f"the objective {self.objective} needs the teacher's logits")
        return self.teacher_logits

    @property
    def ids(self) -> Tensor:
        """Sample ids; the objective has said that it needs them."""
        if self.sample_id is None:
            raise UsageError(f"the objective {self.objective} needs sample_id, the id of each image")
        return self.sample_id

    def hard_labels(self) -> Tensor:
        """``[B]`` classes; of a mixed view that of the image with the larger share, of equal ones the first."""
        if self.labels is not None and self.labels.ndim == 2:
            return self.labels.argmax(1)
        view = self.view
        if view is not None and view.labels is not None and view.partner_labels is not None:
            return torch.where(view.lam >= 0.5, view.labels, view.partner_labels)
        return self.own_labels()

    def own_labels(self) -> Tensor:
        """Labels as given, else the classes of the images that the views are based on."""
        if self.labels is not None:
            return self.labels
        if self.view is not None and self.view.labels is not None:
            return self.view.labels
        raise UsageError(f"the objective {self.objective} needs labels")

    def student_feature(self, index: int) -> Tensor:
        """The student's feature ``index`` in float32, with gradient."""
        return self._feature("student", self.student_features, index).float()

    def teacher_feature(self, index: int) -> Tensor:
        """The teacher's feature ``index`` in float32, without gradient."""
        return frozen(self._feature("teacher", self.teacher_features, index))

    def vectors(self) -> tuple[Tensor, Tensor]:
        """Both pooled vectors, ``[B, D_s]`` and ``[B, D_t]``."""
        return self.student_feature(-1).flatten(1), self.teacher_feature(-1).flatten(1)

    def maps(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Pairs of maps ``f[1:-1]`` in order; where one network has more stages, its later ones are left out."""
        for index in mid_indices(self.objective, self._shapes("student"), self._shapes("teacher")):
            yield self.student_feature(index), self.teacher_feature(index)

    def _shapes(self, whose: str) -> tuple[Shape, ...]:
        return shapes_of(self._list(whose))

    def _list(self, whose: str) -> Sequence[Tensor]:
        features = self.student_features if whose == "student" else self.teacher_features
        if features is None:
            raise UsageError(
                f"the objective {self.objective} needs {whose}_features, the list of model(x, features=True)"
            )
        return features

    def _feature(self, whose: str, features: Sequence[Tensor] | None, index: int) -> Tensor:
        features = self._list(whose) if features is None else features
        check_index(self.objective, whose, shapes_of(features), index)
        return features[index]


def frozen(value: Tensor) -> Tensor:
    """``value`` in float32 without gradient, fit for autograd even if it was made in inference mode."""
    value = value.detach().float()
    return value.clone() if value.is_inference() and not torch.is_inference_mode_enabled() else value


def check_index(objective: str, whose: str, shapes: Sequence[Shape], index: int) -> Shape:
    """The shape of feature ``index``, or ``UsageError`` that lists what there is."""
    if not -len(shapes) <= index < len(shapes):
        raise UsageError(
            f"{objective}: the {whose} has no feature {index}; it has {len(shapes)}: {said(shapes)}"
        )
    return shapes[index]


def mid_indices(objective: str, student: Sequence[Shape], teacher: Sequence[Shape]) -> range:
    """Indices of the paired maps ``f[1:-1]``, as RepDistiller pairs them (the longer list is cut)."""
    stop = min(len(student), len(teacher)) - 1
    if stop < 2:
        raise UsageError(
            f"{objective} compares the maps between stem and pooled vector: the student has {said(student)}, "
            f"the teacher {said(teacher)}"
        )
    return range(1, stop)


def numbers_in(shape: Shape) -> int:
    """Numbers in a feature of this shape."""
    return math.prod(shape)


def said(shapes: Sequence[Shape]) -> str:
    """Shapes for a message: ``0: 16×32×32, 1: 64``."""
    return ", ".join(f"{i}: {'×'.join(map(str, shape))}" for i, shape in enumerate(shapes)) or "none"


def check_rows(o: Outputs) -> None:
    """Every part speaks of the same B images and C classes.

    Raises:
        UsageError: A shape that does not fit, with the one that would.
    """
    s = o.student_logits
    if s.ndim != 2 or not len(s):
        raise UsageError(f"{o.objective}: student logits are [B, C], not {list(s.shape)}")
    b, c = s.shape
    if o.teacher_logits is not None and o.teacher_logits.shape != s.shape:
        raise UsageError(
            f"{o.objective}: student logits are {[b, c]}, the teacher's {list(o.teacher_logits.shape)}; both networks "
            f"see the same images and have the same classes"
        )
    if o.labels is not None:
        if o.labels.shape not in ((b,), (b, c)):
            raise UsageError(
                f"{o.objective}: labels are [{b}] classes or [{b}, {c}] shares, not {list(o.labels.shape)}"
            )
        if o.labels.is_floating_point() != (o.labels.ndim == 2):
            raise UsageError(
                f"{o.objective}: classes [B] are whole numbers and shares [B, C] floats, "
                f"not {o.labels.dtype} {list(o.labels.shape)}"
            )
    if o.sample_id is not None and o.sample_id.shape != (b,):
        raise UsageError(f"{o.objective}: {b} images, but sample ids of shape {list(o.sample_id.shape)}")
    if o.view is not None and len(o.view.lam) != b:
        raise UsageError(f"{o.objective}: {b} rows of logits, but {len(o.view.lam)} views")
    for whose, features in (("student", o.student_features), ("teacher", o.teacher_features)):
        for i, feature in enumerate(features or ()):
            if feature.shape[0] != b:
                raise UsageError(
                    f"{o.objective}: {b} images, but feature {i} of the {whose} has {feature.shape[0]} rows"
                )


def check_labels(o: Outputs) -> None:
    """Classes lie in 0…C−1, shares are not negative and sum to 1. Waits for the device.

    Raises:
        CheckError: The first row that does not fit.
    """
    given = [o.labels if o.labels is not None and o.labels.ndim == 1 else None]
    if o.view is not None:
        given += [o.view.labels, o.view.partner_labels]
    for labels in given:
        bad = None if labels is None else (labels < 0) | (labels >= o.classes)
        if labels is not None and bad is not None and bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise CheckError(
                f"{o.objective}: label {int(labels[row])} in row {row}, but the student has classes "
                f"0…{o.classes - 1}"
            )
    if o.labels is not None and o.labels.ndim == 2:
        bad = ((o.labels.sum(1) - 1).abs() > 1e-3) | (o.labels < 0).any(1) | ~o.labels.isfinite().all(1)
        if bool(bad.any()):
            row = int(bad.nonzero()[0])
            raise CheckError(
                f"{o.objective}: the shares of row {row} are not a distribution over {o.classes} classes "
                f"(sum {float(o.labels[row].sum()):g})"
            )


def not_finite(o: Outputs) -> list[str]:
    """Which tensors hold NaN or infinities, and in which rows (with their sample ids)."""
    tensors: list[tuple[str, Tensor | None]] = [
        ("student logits", o.student_logits),
        ("teacher logits", o.teacher_logits),
    ]
    for whose, features in (("student", o.student_features), ("teacher", o.teacher_features)):
        tensors += [(f"feature {i} of the {whose}", f) for i, f in enumerate(features or ())]
    found = []
    for what, tensor in tensors:
        if tensor is None:
            continue
        bad = ~tensor.detach().flatten(1).isfinite().all(1)
        if bool(bad.any()):
            rows = bad.nonzero().flatten()[:5]
            where = f"rows {', '.join(str(int(r)) for r in rows)}"
            if o.sample_id is not None:
                where += f" (sample ids {', '.join(str(int(o.sample_id[r])) for r in rows)})"
            more = ", …" if int(bad.sum()) > len(rows) else ""
            kind = "NaN" if bool(tensor.isnan().any()) else "infinity"
            found.append(f"{what}: {kind} in {where}{more}")
    return found
