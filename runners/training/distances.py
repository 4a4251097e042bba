"""How far two networks are from each other: in their weights, their answers and their features.

Everything is computed in float64. t is the first network (the teacher), s the second (the student), p = softmax at
T = 1, logarithms natural.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from kdstats.errors import CheckError, UsageError

# What a number means, written beside the numbers.
DEFINITION = {
    "parameter_l2": "Euclidean norm of s - t over all parameters",
    "parameter_relative": "parameter_l2 divided by the Euclidean norm of t",
    "parameter_cosine": "cosine of the angle between t and s as vectors of all parameters",
    "kl": "KL(p_t || p_s) at T = 1 in nats",
    "symmetric_kl": "KL(p_t || p_s) + KL(p_s || p_t), Jeffreys' divergence, in nats",
    "probability_l2": "Euclidean norm of p_t - p_s",
    "disagreement": "share of images that get another class",
    "cka": "linear CKA of the last features, Kornblith et al. 2019: 1 where they agree up to rotation and scale",
    "mean, sd": "over the probe images (divisor n - 1); cka: over all of them, its sd over disjoint blocks",
}


@dataclass(frozen=True)
class ParameterDistance:
    """Between the parameters of two networks of one architecture, each taken as one vector.

    Attributes:
        l2: ‖s − t‖₂.
        relative: ‖s − t‖₂ / ‖t‖₂.
        cosine: ⟨t, s⟩ / (‖t‖₂ ‖s‖₂).
    """

    l2: float
    relative: float
    cosine: float


def parameter_distance(teacher: nn.Module, student: nn.Module) -> ParameterDistance:
    """Distance of the parameters (buffers, such as BatchNorm's statistics, are not among them).

    Raises:
        UsageError: The architectures differ; the first parameter that does not match is named.
        CheckError: A parameter is not finite, or one network is zero throughout.
    """
    ours, theirs = (dict(unwrapped(network).named_parameters()) for network in (teacher, student))
    for name in sorted(ours.keys() | theirs.keys()):
        shapes = [tuple(side[name].shape) if name in side else "absent" for side in (ours, theirs)]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"parameters can be compared within one architecture only: {name} is {shapes[0]} in the teacher "
                f"and {shapes[1]} in the student. Distances of answers and CKA need no such match"
            )
    square = own = other = inner = 0.0
    for name, parameter in ours.items():
        t, s = parameter.detach().double(), theirs[name].detach().double().to(parameter.device)
        square += float(((s - t) ** 2).sum())
        own += float((t * t).sum())
        other += float((s * s).sum())
        inner += float((t * s).sum())
    if not math.isfinite(square + own + other):
        raise CheckError("a parameter is NaN or infinite; distances of parameters have no meaning")
    if own == 0 or other == 0:
        raise CheckError("all parameters of a network are 0; its direction has no meaning")
    cosine = inner / math.sqrt(own) / math.sqrt(other)
    l2 = math.sqrt(square)
    return ParameterDistance(l2, l2 / math.sqrt(own), min(1.0, max(-1.0, cosine)))


def unwrapped(network: nn.Module) -> nn.Module:
    """Without the wrapper of DistributedDataParallel (``module``) or ``torch.compile`` (``_orig_mod``)."""
    for name in ("module", "_orig_mod"):
        inner = network._modules.get(name)
        if inner is not None and len(network._modules) == 1 and not network._parameters:
            return unwrapped(inner)
    return network


def answer_distances(teacher_logits: Tensor, student_logits: Tensor) -> dict[str, Tensor]:
    """Distances of the answers to each image, ``[N]`` float64: see :data:`DEFINITION`.

    Args:
        teacher_logits: ``[N, C]``.
        student_logits: ``[N, C]``.

    Raises:
        UsageError: Shapes differ, or there is no image.
        CheckError: A logit is NaN or infinite.
    """
    if teacher_logits.shape != student_logits.shape or teacher_logits.ndim != 2 or not len(teacher_logits):
        raise UsageError(
            f"logits of both networks are [images, classes] alike, not {list(teacher_logits.shape)} and "
            f"{list(student_logits.shape)}"
        )
    for name, logits in (("teacher", teacher_logits), ("student", student_logits)):
        _finite(f"a logit of the {name}", logits)
    log_t, log_s = (z.double().log_softmax(1) for z in (teacher_logits, student_logits))
    p_t, p_s = log_t.exp(), log_s.exp()
    gap = log_t - log_s
    # A difference of nearly equal terms can come out a rounding error below its bound of zero.
    return {
        "kl": (p_t * gap).sum(1).clamp_min(0),
        "symmetric_kl": ((p_t - p_s) * gap).sum(1).clamp_min(0),
        "probability_l2": (p_t - p_s).norm(dim=1),
        "disagreement": (log_t.argmax(1) != log_s.argmax(1)).double(),
    }


def linear_cka(x: Tensor, y: Tensor) -> float:
    """Linear CKA, ‖YᵀX‖²_F / (‖XᵀX‖_F ‖YᵀY‖_F) with centred columns: in [0, 1], blind to rotation and scale.

    Kornblith et al. 2019, equation 4 with linear kernels. It is biased upwards where there are not many more
    images than features, so compare values of one probe set only.

    Args:
        x: ``[N, D1]`` features of N images.
        y: ``[N, D2]`` features of the same images in the same order.

    Raises:
        UsageError: Other shapes, or fewer than two images.
        CheckError: Features are not finite, or the same for every image.
    """
    if x.ndim != 2 or y.ndim != 2 or len(x) != len(y) or len(x) < 2:
        raise UsageError(
            f"CKA needs two or more images, [N, D1] and [N, D2], not {list(x.shape)} and {list(y.shape)}"
        )
    sides = []
    for name, features in (("first", x), ("second", y)):
        _finite(f"a feature of the {name} network", features)
        wide = features.double()
        scale = wide.abs().max()
        centred = wide - wide.mean(0)
        # What is left of a constant after centring is rounding error, of the size of the float's last digit.
        if centred.abs().max() <= 1e-12 * scale:
            raise CheckError(
                f"the features of the {name} network are the same for every image; CKA is undefined"
            )
        sides.append(centred / centred.norm())
    a, b = sides
    if len(a) < max(a.shape[1], b.shape[1]):  # the Gram matrices of images are the smaller ones
        k, m = a @ a.T, b @ b.T
        return float((k * m).sum() / (k.norm() * m.norm()))
    return float((b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm()))


def _finite(what: str, values: Tensor) -> None:
    if not bool(torch.isfinite(values).all()):
        raise CheckError(f"{what} is NaN or infinite; distances would be too")
