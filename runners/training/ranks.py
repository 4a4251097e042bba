"""One run on several processes: who does which images of a batch, and what they tell each other."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from kdstats.errors import UsageError
from runners.training.synced_batchnorm import synced


@dataclass(frozen=True)
class Ranks:
    """The processes of one run.

    Attributes:
        rank: Number of this one, from 0.
        world: How many there are.
    """

    rank: int = 0
    world: int = 1

    @classmethod
    def join(cls, device: torch.device) -> Ranks:
        """Joins the group that ``torchrun`` announces in the environment; alone without it."""
        world = int(os.environ.get("WORLD_SIZE", "1"))
        if world == 1:
            return cls()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(dist.get_rank(), world)

    @staticmethod
    def device(asked: str) -> str:
        """The device of this process: under ``torchrun`` every process of a machine has a GPU of its own.

        Raises:
            UsageError: One GPU named for several processes.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1 or asked == "cpu" or not torch.cuda.is_available():
            return asked
        if asked not in ("auto", "cuda"):
            raise UsageError(f"--device {asked} is one device for several processes; leave it at auto")
        own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
        torch.cuda.set_device(own)
        return own

    @staticmethod
    def leave() -> None:
        """Ends the group, if there is one."""
        if dist.is_available() and dist.is_initialized():
            dist.destroy_process_group()

    @property
    def main(self) -> bool:
        """Whether this process writes: records, metrics, weights, states."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """``network`` for training: BatchNorm over the whole batch, gradients averaged over the processes."""
        if self.world == 1:
            return network
        return DistributedDataParallel(synced(network), forward_sync_buffers=False)

    def slice(self, n: int) -> slice:
        """This process's share of a batch of ``n``: consecutive rows, as even as can be."""
        base, more = divmod(n, self.world)
        first = self.rank * base + min(self.rank, more)
        return slice(first, first + base + (self.rank < more))

    def gather(self, part: Tensor, n: int) -> Tensor:
        """The rows ``[n, …]`` of all processes, in the order of the batch; each gave its :meth:`slice`."""
        if self.world == 1:
            return part
        sizes = [Ranks(rank, self.world).slice(n) for rank in range(self.world)]
        most = max(s.stop - s.start for s in sizes)
        padded = part.new_zeros((most, *part.shape[1:]))
        padded[: len(part)] = part
        found = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(found, padded)
        return torch.cat([rows[: s.stop - s.start] for rows, s in zip(found, sizes, strict=True)])

    def sum(self, value: Tensor) -> Tensor:
        """The sum over all processes."""
        if self.world > 1:
            value = value.clone()
            dist.all_reduce(value)
        return value

    def any(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so; every process gets the same answer."""
        if self.world == 1:
            return flag
        told = torch.tensor(float(flag), device=device)
        dist.all_reduce(told, dist.ReduceOp.MAX)
        return bool(told > 0)

    def barrier(self) -> None:
        """Waits for all."""
        if self.world > 1:
            dist.barrier()


ALONE = Ranks()
