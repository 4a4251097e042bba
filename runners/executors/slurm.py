"""Runs under Slurm through submitit: one job array; a pre-empted job is queued again and continues.

Slurm sends SIGUSR2 before pre-emption and at the time limit. The loop keeps its state at the end of the step, the
run's claim is released, submitit queues the job again, and it goes on from that state. With ``cluster = "local"``
submitit runs the same jobs as processes on this machine.
"""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import submitit
import submitit.helpers

from kdstats.errors import KdstatsError, UsageError
from runners.executors.attempt import carry_out, note_failure, use_threads
from runners.executors.base import GRACE, Attempts, Ending, Errand, StopSign, default_workers
from runners.executors.shipping import environment, ship_code, ship_specs
from runners.run_spec import RunSpec

if TYPE_CHECKING:
    from runners.study_file.sections import ExecutorSection

_ARRAY = 1000  # Slurm's usual limit of an array is 1001
_DAY = 1440  # minutes
_PREEMPT = "SUBMITIT_PREEMPT_SIGNAL"  # where submitit reads which signal it is


class Job:
    """What submitit calls in a job with the run's spec, and asks for a checkpoint when the job must go."""

    def __init__(self, study: str, device: str, token: str, threads: int) -> None:
        self.study, self.device, self.token, self.threads = study, device, token, threads

    def __call__(self, spec: RunSpec) -> Ending:
        use_threads(self.threads)
        study = Path(self.study)
        ending = carry_out(spec, study, self.device, self.token)
        if ending.kind == "stopped" and not StopSign(study, self.token):
            # The loop kept its state and ended; what came was the signal of a pre-emption or of the time limit.
            signal.raise_signal(getattr(signal, f"SIG{os.environ.get(_PREEMPT, 'USR2')}"))
        return ending

    def checkpoint(self, spec: RunSpec) -> submitit.helpers.DelayedSubmission:
        """What to do when the job comes back: the same, which goes on from the state on disk."""
        return submitit.helpers.DelayedSubmission(self, spec)


class SlurmExecutor:
    """One array of all runs, ``workers`` of them at the same time at most."""

    one_folder = True

    def __init__(self, workers: int | None, device: str, settings: ExecutorSection) -> None:
        if device not in ("auto", "cpu", "cuda"):
            raise UsageError(f"Slurm chooses the GPU: --device auto, cpu or cuda, not {device}")
        if settings.gpus != int(settings.gpus):
            raise UsageError(
                f"Slurm gives whole GPUs, not {settings.gpus:g}: set executor.gpus to a whole number, or ask for a "
                'share through [executor.slurm], for example gres = "shard:1"'
            )
        if device == "cuda" and not settings.gpus and "gres" not in settings.slurm:
            raise UsageError("--device cuda under Slurm needs a GPU per run: --set executor.gpus=1")
        if settings.cluster == "slurm" and shutil.which("sbatch") is None:
            raise UsageError(
                "no sbatch here: start from a login node of the cluster, or try the jobs as processes of this machine "
                "with --set executor.cluster=local"
            )
        self.workers, self.settings = workers, settings
        self.at_once, self.threads = workers or default_workers(settings.cores), settings.threads
        gpu = settings.gpus or "gres" in settings.slurm
        self.device = "cuda" if gpu and device != "cpu" else "cpu"

    def describe(self) -> str:
        """For the line before the first run."""
        where = "Slurm" if self.settings.cluster == "slurm" else "submitit on this machine"
        most = f", at most {self.workers} at a time" if self.workers else ""
        return f"{where}, {self.settings.cores} core{'s' * (self.settings.cores > 1)} a run{most}"

    def execute(self, errand: Errand) -> None:
        """Carries out ``errand``; see :class:`runners.executors.base.Executor`.

        Raises:
            UsageError: submitit does not know a parameter under ``[executor.slurm]``.
        """
        if "%" in str(errand.study.resolve()):
            raise UsageError(
                f"{errand.study} has a percent sign in its path, which submitit replaces; choose another --out"
            )
        os.environ.update(environment(ship_code(errand.study)))
        executor = self._executor(errand.study)
        # On this machine submitit starts what it is given at once; under Slurm the array holds the rest back.
        here = self.settings.cluster == "local"
        window = self.at_once if here else _ARRAY
        queue = ship_specs(errand.specs, errand.study)
        attempts = Attempts(errand.study, self.settings.attempts)
        call = Job(str(errand.study.resolve()), self.device, errand.stop.token, self.threads)
        flying: dict[Any, RunSpec] = {}
        try:
            while queue or flying:
                room = window - len(flying)
                # Few arrays rather than many: under Slurm the next is made when half of its places are free.
                if queue and room >= (1 if here else min(len(queue), _ARRAY // 2)):
                    batch, queue = queue[:room], queue[room:]
                    flying |= dict(zip(executor.map_array(call, batch), batch, strict=True))
                time.sleep(0.5 if here else 2.0)
                for job in [job for job in flying if job.done()]:
                    spec = flying.pop(job)
                    if errand.settle(spec, _ending(job, spec, errand), attempts):
                        queue.append(spec)
                errand.on_tick()
        except BaseException:
            _let_end(errand, list(flying))
            raise

    def _executor(self, study: Path) -> Any:
        extra = dict(self.settings.slurm)
        minutes = int(extra.pop("timeout_min", _DAY))
        executor = submitit.AutoExecutor(
            folder=study.resolve() / "slurm" / "%j", cluster=self.settings.cluster
        )
        parameters: dict[str, Any] = {
            "name": "kdstats",
            "timeout_min": minutes,
            "cpus_per_task": self.settings.cores,
            "gpus_per_node": int(self.settings.gpus),
            "slurm_signal_delay_s": int(extra.pop("signal_delay_s", 120)),
            **{f"slurm_{key}": value for key, value in extra.items()},
        }
        if self.workers:
            parameters["slurm_array_parallelism"] = self.workers
        try:
            executor.update_parameters(**parameters)
        except (NameError, TypeError, ValueError) as error:
            raise UsageError(f"[executor.slurm]: {' '.join(str(error).split())}") from None
        return executor


def _ending(job: Any, spec: RunSpec, errand: Errand) -> Ending:
    try:
        ending: Ending = job.result()
    except Exception as error:  # submitit passes on whatever ended the job
        last = (str(error).strip().splitlines() or ["?"])[-1]
        line = f"job {job.job_id} ended without an answer: {last}"
        note_failure(spec, spec.paths(errand.study), line)
        return Ending("failed", line, again=True)
    return ending


def _let_end(errand: Errand, jobs: list[Any]) -> None:
    """Asks the jobs to keep their states and stop, and gives them some time; then they are cancelled."""
    try:
        errand.stop.raise_()
    except KdstatsError:
        pass
    else:
        until = time.monotonic() + GRACE
        begun = [job for job in jobs if job.state == "RUNNING"]
        for job in jobs:
            if job not in begun:
                job.cancel(check=False)
        while time.monotonic() < until and not all(job.done() for job in begun):
            time.sleep(0.5)
    for job in jobs:
        if not job.done():
            job.cancel(check=False)
