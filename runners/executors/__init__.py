"""Where runs are carried out: on this machine, on a Ray cluster, under Slurm.

An executor takes specs and reports each run as it ends; :mod:`runners.executors.base` says what is asked of it.
Each is imported when it is asked for, so that Ray and submitit are needed by those who use them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from kdstats.errors import UsageError, unknown

if TYPE_CHECKING:
    from runners.executors.base import Executor
    from runners.study_file.sections import ExecutorSection

_EXECUTORS = {
    "local": "runners.executors.local:LocalExecutor",
    "ray": "runners.executors.ray_cluster:RayExecutor",
    "slurm": "runners.executors.slurm:SlurmExecutor",
}
_NEEDS = {"ray": "ray", "slurm": "submitit"}


def names() -> list[str]:
    """All executors."""
    return list(_EXECUTORS)


def get(name: str, workers: int | None, device: str, settings: ExecutorSection) -> Executor:
    """An executor by name.

    Args:
        name: ``local``, ``ray`` or ``slurm``.
        workers: Most runs at the same time; None leaves it to the executor.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N`` (the latter locally only).
        settings: ``[executor]`` of the study file.

    Raises:
        UsageError: Unknown name, settings that make no sense there, or the extra is not installed.
    """
    if name not in _EXECUTORS:
        raise unknown("executor", name, _EXECUTORS)
    if workers is not None and workers < 1:
        raise UsageError(f"at least 1 worker is needed, not {workers}")
    module, _, attribute = _EXECUTORS[name].partition(":")
    try:
        made: Executor = getattr(import_module(module), attribute)(workers, device, settings)
    except ModuleNotFoundError as error:
        if name not in _NEEDS or error.name != _NEEDS[name]:
            raise
        raise UsageError(
            f"--executor {name} needs {_NEEDS[name]}, which is not installed: pip install -e '.[{name}]'"
        ) from None
    return made
