"""BatchNorm over the images of all processes, so that a run on several is the run on one.

PyTorch's ``SyncBatchNorm`` exists for GPUs only; on CPUs the two sums are added up here.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn


class _Sum(torch.autograd.Function):
    """The sum over all processes; its gradient is the sum of the gradients."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        out = value.clone()
        dist.all_reduce(out)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        out = gradients[0].clone()
        dist.all_reduce(out)
        return out


class SyncedBatchNorm2d(nn.BatchNorm2d):
    """``BatchNorm2d`` whose batch statistics are those of all processes' images."""

    def forward(self, x: Tensor) -> Tensor:
        """``[B, D, H, W]`` → the same shape; every process must call it alike."""
        self._check_input_dim(x)
        if not self.training:
            return F.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
            )
        dims = (0, 2, 3)
        count = torch.full((1,), x.numel() / x.shape[1], dtype=torch.float64, device=x.device)
        values = x.double()
        # Two rounds: squares of raw values would lose the digits in which the variance lies.
        sums = _Sum.apply(torch.cat([values.sum(dims), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = values - mean[:, None, None]
        var = _Sum.apply((centred * centred).sum(dims)) / total
        if (
            self.running_mean is not None
            and self.running_var is not None
            and self.num_batches_tracked is not None
        ):
            with torch.no_grad():
                self.num_batches_tracked.add_(1)
                share = self.momentum if self.momentum is not None else 1 / float(self.num_batches_tracked)
                self.running_mean.lerp_(mean.to(self.running_mean), share)
                self.running_var.lerp_((var * total / (total - 1)).to(self.running_var), share)
        out = centred * torch.rsqrt(var + self.eps)[:, None, None]
        if self.affine:
            out = out * self.weight[:, None, None] + self.bias[:, None, None]
        result: Tensor = out.to(x.dtype)
        return result


def synced(network: nn.Module) -> nn.Module:
    """``network`` with every BatchNorm2d exchanged for one over all processes; names and weights stay."""
    if any(p.is_cuda for p in network.parameters()):
        converted: nn.Module = nn.SyncBatchNorm.convert_sync_batchnorm(network)  # type: ignore[no-untyped-call]
        return converted
    for name, child in network.named_children():
        if type(child) is nn.BatchNorm2d:
            new = SyncedBatchNorm2d(
                child.num_features, child.eps, child.momentum, child.affine, child.track_running_stats
            )
            # The tensors themselves: an optimiser may hold them already.
            new.weight, new.bias = child.weight, child.bias
            new.running_mean, new.running_var = child.running_mean, child.running_var
            new.num_batches_tracked = child.num_batches_tracked
            new.train(child.training)
            setattr(network, name, new)
        else:
            synced(child)
    return network
