"""What may make a run faster or more repeatable without changing what is measured, and how it is switched."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from kdstats.errors import UsageError, unknown
from kdstats.teacher.network import Network

DETERMINISM = {
    "off": "the fastest kernels, tried out where the library can; two runs may differ in the last digits",
    "seeded": "seeded everywhere, no kernels are tried out; on one CPU with as many threads two runs are equal",
    "strict": "deterministic kernels only, an error where there is none",
}
COMPILE = {
    "off": "eager",
    "default": "torch.compile",
    "cudagraphs": "torch.compile(mode='reduce-overhead'): CUDA graphs, needs a GPU",
}


@contextmanager
def determinism(kind: str) -> Iterator[None]:
    """The settings of :data:`DETERMINISM` for the length of a run; those before it come back afterwards.

    Raises:
        UsageError: Unknown kind.
    """
    if kind not in DETERMINISM:
        raise unknown("determinism", kind, DETERMINISM)
    cudnn: Any = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        cudnn.benchmark,
        cudnn.deterministic,
        os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
    )
    try:
        cudnn.benchmark, cudnn.deterministic = kind == "off", kind == "strict"
        if kind == "strict":
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        torch.use_deterministic_algorithms(kind == "strict")
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        cudnn.benchmark, cudnn.deterministic = before[1], before[2]
        if kind == "strict":
            os.environ.pop("CUBLAS_WORKSPACE_CONFIG")
            if before[3] is not None:
                os.environ["CUBLAS_WORKSPACE_CONFIG"] = before[3]


def compiled(network: nn.Module, kind: str) -> nn.Module:
    """``network`` as :data:`COMPILE` says; its weights and names stay where they are.

    Raises:
        UsageError: Unknown kind, or CUDA graphs without a GPU.
    """
    if kind not in COMPILE:
        raise unknown("way to compile", kind, COMPILE)
    if kind == "off":
        return network
    if kind == "cudagraphs" and not next(network.parameters()).is_cuda:
        raise UsageError("compile = 'cudagraphs' needs a GPU; 'default' compiles for CPUs too")
    mode = "reduce-overhead" if kind == "cudagraphs" else None
    whole: nn.Module = torch.compile(network, mode=mode)  # type: ignore[assignment]
    return whole


class _Plain(nn.Module):
    """Images → logits and nothing else: what can be traced of a network that may also give its maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x)
        return out


def folded(teacher: Network) -> Network:
    """The teacher with each BatchNorm that follows a convolution folded into it.

    Exact up to rounding in evaluation mode (about 1e-6 of the logits). BatchNorms before convolutions, those of wide
    residual networks, stay. The maps between the stages are lost, so an objective on features cannot have it.

    Raises:
        UsageError: No BatchNorm could be folded.
    """
    from torch.fx.experimental.optimization import fuse

    before = _batchnorms(teacher.model)
    try:
        model: nn.Module = fuse(_Plain(teacher.model))
    except Exception:  # tracing stops at branches on sizes, and foreign code may raise anything
        model = _folded_sequences(copy.deepcopy(teacher.model))
    if before and _batchnorms(model) == before:
        raise UsageError(
            f"{teacher.arch} cannot be traced, so its BatchNorm cannot be folded; leave fold_teacher off"
        )
    return replace(teacher, model=model.eval().requires_grad_(False), _buffers="")


def _batchnorms(network: nn.Module) -> int:
    return sum(isinstance(module, nn.BatchNorm2d) for module in network.modules())


def _folded_sequences(network: nn.Module) -> nn.Module:
    """Folds what stands next to each other in an ``nn.Sequential``, in place."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for i in range(len(module) - 1):
                conv, norm = module[i], module[i + 1]
                if type(conv) is nn.Conv2d and type(norm) is nn.BatchNorm2d:
                    module[i] = fuse_conv_bn_eval(conv.eval(), norm.eval())
                    module[i + 1] = nn.Identity()
    return network
