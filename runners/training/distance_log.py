"""Distances of two networks after every epoch, kept in ``distances.jsonl`` beside the run's metrics."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from kdstats.errors import CheckError, KdstatsError, UsageError
from kdstats.models.classifier import Classifier
from kdstats.records.atomic import write_bytes_atomic
from kdstats.records.distances import SCHEMA, parse
from runners.training.distances import DEFINITION, answer_distances, linear_cka, parameter_distance, unwrapped


class DistanceLog:
    """Measures on one fixed probe set and appends a line per epoch and pair of networks.

    The first line of the file is its header: schema, what each number means, and which images were asked. What has
    no meaning for a pair (parameters of two architectures, CKA of a network without features) is ``null`` in its
    lines, with the reason under ``left_out``.

    Args:
        path: The file, ``distances.jsonl`` in a run's directory.
        images: ``[N, C, H, W]`` normalised images, the same ones whenever the run is continued.
        batch_size: Images asked at once, and the blocks for the spread of CKA.
        known_epochs: Epochs that the run's state knows; lines of later ones are dropped. 0 begins the file.

    Raises:
        UsageError: Fewer than two images.
        CheckError: The file was made with other images or definitions.
        MissingError: The run has known epochs and the file is missing or damaged.
    """

    def __init__(self, path: Path, images: Tensor, *, batch_size: int = 256, known_epochs: int = 0) -> None:
        if images.ndim != 4 or len(images) < 2 or batch_size < 2:
            raise UsageError(f"distances need two or more images [N, C, H, W], not {list(images.shape)}")
        self.path, self.images, self.batch_size = path, images, batch_size
        content = images.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data
        self.header = {
            "schema": SCHEMA,
            "probe": {
                "images": len(images),
                "shape": list(images.shape[1:]),
                "sha256": hashlib.sha256(content).hexdigest(),
                "block": batch_size,
            },
            "definition": DEFINITION,
        }
        lines = [self.header]
        if known_epochs:
            lines += [row for row in self._kept() if row["epoch"] <= known_epochs]
        write_bytes_atomic(path, "".join(_line(line) for line in lines).encode())

    def _kept(self) -> list[dict[str, Any]]:
        header, *rows = parse(self.path)
        if header != self.header:
            raise CheckError(
                f"{self.path} was made with other probe images or definitions; one run keeps to one probe set"
            )
        return rows

    def record(
        self,
        epoch: int,
        teacher: nn.Module,
        student: nn.Module,
        names: tuple[str, str] = ("teacher", "student"),
    ) -> dict[str, Any]:
        """Measures after ``epoch`` (from 1) and appends the line, which is returned.

        Both networks are asked in evaluation mode without gradient and left as they were.

        Args:
            epoch: Number of the epoch.
            teacher: t of the definitions.
            student: s of the definitions.
            names: What the line calls them, for several pairs an epoch.

        Raises:
            CheckError: A network answers with NaN; epoch and networks are named.
        """
        try:
            row = {"epoch": epoch, "t": names[0], "s": names[1], **self._measure(teacher, student)}
        except CheckError as error:
            raise CheckError(f"epoch {epoch}, {names[0]} and {names[1]}: {error}") from None
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(_line(row))
            stream.flush()
            os.fsync(stream.fileno())
        return row

    def _measure(self, teacher: nn.Module, student: nn.Module) -> dict[str, Any]:
        found: dict[str, Any] = {}
        left_out: dict[str, str] = {}
        try:
            weights = parameter_distance(teacher, student)
            found |= {f"parameter_{name}": value for name, value in vars(weights).items()}
        except UsageError as error:
            found |= dict.fromkeys(("parameter_l2", "parameter_relative", "parameter_cosine"))
            left_out["parameters"] = str(error)
        (t_logits, t_features), (s_logits, s_features) = self._ask(teacher), self._ask(student)
        for name, values in answer_distances(t_logits, s_logits).items():
            found |= {f"{name}_mean": float(values.mean()), f"{name}_sd": float(values.std())}
        found |= {"cka": None, "cka_sd": None}
        if t_features is None or s_features is None:
            which = "teacher" if t_features is None else "student"
            left_out["cka"] = f"the {which} is no network of kdstats.models and gives no features"
        else:
            try:
                found |= self._cka(t_features, s_features)
            except (
                CheckError
            ) as error:  # a student whose units have died is a finding, not the end of its run
                left_out["cka"] = str(error)
        return found | ({"left_out": left_out} if left_out else {})

    def _cka(self, t: Tensor, s: Tensor) -> dict[str, float]:
        found = {"cka": linear_cka(t, s)}
        starts = range(0, len(t) - self.batch_size + 1, self.batch_size)
        if len(starts) > 1:
            each = [linear_cka(t[k : k + self.batch_size], s[k : k + self.batch_size]) for k in starts]
            found["cka_sd"] = float(np.std(each, ddof=1))
        return found

    def _ask(self, network: nn.Module) -> tuple[Tensor, Tensor | None]:
        """Logits ``[N, C]`` and the last features ``[N, D]`` where the network has them."""
        logits, features = [], []
        network = unwrapped(network)
        with _evaluating(network), torch.no_grad():
            for batch in torch.split(self.images, self.batch_size):
                if isinstance(network, Classifier):
                    out, maps = network(batch, features=True)
                    features.append(maps[-1].float())
                else:
                    out = network(batch)
                logits.append(out.float())
        return torch.cat(logits), torch.cat(features) if features else None


@contextlib.contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Evaluation mode for a while; every layer gets its own mode back, also where they differed."""
    modes = [(module, module.training) for module in network.modules()]
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _line(value: dict[str, Any]) -> str:
    try:
        return json.dumps(value, allow_nan=False) + "\n"
    except ValueError as error:
        raise KdstatsError(f"a distance is not a number: {error}") from error
