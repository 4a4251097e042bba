"""Runs on a Ray cluster: Ray places them by cores and GPUs, and starts them again when a node is lost.

The code travels as ``working_dir``; results go to the study's folder, which all nodes must see, or to a store.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

import ray
import ray.exceptions

from kdstats.errors import KdstatsError, UsageError
from runners.executors.attempt import carry_out, note_failure, use_threads
from runners.executors.away import Away, carry_out_away
from runners.executors.base import GRACE, Attempts, Ending, Errand, default_workers
from runners.executors.shipping import environment, ship_code, ship_specs
from runners.executors.store import Store
from runners.run_spec import RunSpec

if TYPE_CHECKING:
    from runners.study_file.sections import ExecutorSection


class RayExecutor:
    """As many runs as the cluster's resources hold, or ``workers`` at most."""

    def __init__(self, workers: int | None, device: str, settings: ExecutorSection) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"Ray chooses the GPU: --device auto, cpu or cuda, not {device}")
        if device == "cuda" and not settings.gpus:
            raise UsageError("--device cuda on Ray needs a share of a GPU per run: --set executor.gpus=0.25")
        self.workers, self.settings = workers, settings
        self.one_folder = settings.store is None
        self.at_once, self.threads = workers or default_workers(settings.cores), settings.threads
        self.device = "cuda" if settings.gpus and device != "cpu" else "cpu"
        if settings.store is not None:
            if settings.store.startswith("memory:"):
                raise UsageError(
                    "memory:// is one process's own; Ray's workers need a store that all of them reach"
                )
            Store(settings.store)  # says now what would fail later

    def describe(self) -> str:
        """For the line before the first run."""
        most = f", at most {self.workers} at a time" if self.workers else ""
        gpus = f" and {self.settings.gpus:g} GPU" if self.settings.gpus else ""
        through = f", through {self.settings.store}" if self.settings.store else ""
        return f"Ray, {self.settings.cores} core{'s' * (self.settings.cores > 1)}{gpus} a run{most}{through}"

    def execute(self, errand: Errand) -> None:
        """Carries out ``errand``; see :class:`runners.executors.base.Executor`.

        Raises:
            KdstatsError: No cluster at the address.
        """
        code = ship_code(errand.study)
        try:
            ray.init(
                address=self.settings.address,
                runtime_env={"working_dir": str(code), "env_vars": environment(code)},
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except ray.exceptions.AuthenticationError as error:
            raise KdstatsError(
                f"the Ray cluster wants its token: export RAY_AUTH_MODE=token, with the first node's ~/.ray/auth_token "
                f"in place ({' '.join(str(error).split())[:120]})"
            ) from None
        except (ConnectionError, ValueError) as error:
            raise KdstatsError(
                f"no Ray cluster at {self.settings.address or 'RAY_ADDRESS'}: {error}. `ray start --head` starts one."
            ) from None
        flying: dict[Any, RunSpec] = {}
        away = None if self.settings.store is None else Away(self.settings.store, errand.study)
        try:
            self._fly(errand, flying, away)
        except BaseException:
            _let_end(errand, flying, away)
            raise
        finally:
            ray.shutdown()

    def _fly(self, errand: Errand, flying: dict[Any, RunSpec], away: Away | None) -> None:
        settings = self.settings
        task = ray.remote(num_cpus=settings.cores, num_gpus=settings.gpus, max_retries=settings.attempts - 1)(
            _remote
        )
        specs = ship_specs(errand.specs, errand.study)
        queue = (specs if away is None else away.ship(specs))[::-1]
        attempts = Attempts(errand.study, settings.attempts)
        study = str(errand.study.resolve()) if away is None else None
        while queue or flying:
            while queue and (self.workers is None or len(flying) < self.workers):
                spec = queue.pop()
                flying[
                    task.remote(spec, study, settings.store, self.device, errand.stop.token, self.threads)
                ] = spec
            ended, _ = ray.wait(list(flying), num_returns=1, timeout=1.0)
            for reference in ended:
                spec = flying.pop(reference)
                ending = _ending(reference, spec, errand)
                if away is not None:
                    ending = away.fetch(spec, ending)
                if errand.settle(spec, ending, attempts):
                    queue.insert(0, spec)
            if away is not None:
                away.look(flying.values())
            errand.on_tick()


def _ending(reference: Any, spec: RunSpec, errand: Errand) -> Ending:
    try:
        ending: Ending = ray.get(reference)
    except ray.exceptions.RayError as error:
        # A remote traceback ends with what went wrong.
        last = [text for text in str(error).splitlines() if text.strip()][-1:] or ["?"]
        line = f"Ray gave up after its own retries: {type(error).__name__}: {' '.join(last[0].split())[:300]}"
        note_failure(spec, spec.paths(errand.study), line)
        return Ending("failed", line, again=True)
    return ending


def _let_end(errand: Errand, flying: dict[Any, RunSpec], away: Away | None) -> None:
    """Asks the workers to keep their states and stop, and gives them some time; then they are ended."""
    try:
        errand.stop.raise_()
        if away is not None:
            away.ask_to_stop(errand.stop)
    except KdstatsError:
        return
    until = time.monotonic() + GRACE
    waiting = list(flying)
    # Tasks that wait for a place answer the sign as soon as they get one, so all come back soon.
    while waiting and time.monotonic() < until:
        _, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0.5)
    for reference in waiting:
        ray.cancel(reference, force=True)


def _remote(
    spec: RunSpec, study: str | None, store: str | None, device: str, token: str, threads: int
) -> Ending:
    """In a worker of Ray: in the study's folder, or through the store where there is none."""
    from pathlib import Path

    use_threads(threads)
    if store is not None:
        return carry_out_away(spec, store, device, token)
    return carry_out(spec, Path(str(study)), device, token)
