"""A whole study: teachers, teacher-only measurement, students, tables, page. Running it again continues.

python -m runners.study run runners/studies/quickstart.toml --out kdstats-out/quickstart
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import filelock
import tomli_w
import torch

from kdstats import data, schemes
from kdstats._version import __version__
from kdstats.allocator import keep_pages
from kdstats.console import run_program
from kdstats.data import ImageSet
from kdstats.errors import IncompleteError, MissingError, UsageError
from kdstats.provenance import now, provenance
from kdstats.records.atomic import write_bytes_atomic
from kdstats.records.paths import StudyPaths
from kdstats.records.writer import is_complete, write_json_atomic
from kdstats.teacher.accuracy import measure
from kdstats.teacher.evaluate import Status, evaluate_da
from kdstats.teacher.load import load_network, shipped_path
from kdstats.teacher.network import Network
from runners import recipes
from runners import teacher as teacher_runner
from runners.collect import collect, probe_files
from runners.config import StudyFile, TeacherSection, read_study
from runners.executors import local
from runners.plan import cost, default_workers, epochs_on_disk, make_specs
from runners.progress import StudyProgress, say
from runners.run_spec import RunSpec

_TEMPLATE = Path(__file__).parent / "studies" / "quickstart.toml"


def teachers_of(
    study: StudyFile, train_set: ImageSet, paths: StudyPaths, *, train: bool
) -> dict[str, Network]:
    """The study's teachers; where the file names no weights they are trained first, if ``train`` allows it.

    Raises:
        MissingError: A teacher would have to be trained and may not be.
    """
    found = {}
    for name in dict.fromkeys(pair.partition("/")[0] for pair in study.grid.pairs):
        section = study.teacher.get(name, TeacherSection())
        weights = shipped_path() if section.weights == "shipped" else section.weights
        if weights is None:
            weights = paths.root / "teachers" / f"{name}.safetensors"
            if not weights.is_file() and not train:
                raise MissingError(
                    f"the teacher {name} is not trained yet: `python -m runners.study run` trains it first, or name "
                    f"its weights in the study file: [teacher.{name}] weights = FILE"
                )
            if not weights.is_file():
                say(f"training the teacher {name}, once")
                recipe = recipes.get(section.recipe or study.train.recipe)
                test_set = data.load(study.study.dataset, "test", study.study.data)
                recipe = recipe.with_epochs(section.epochs).on_this_machine()
                teacher_runner.train(name, train_set, test_set, recipe, section.seed, weights)
        found[name] = load_network(weights, name, train_set, torch.device("cpu"))
    return found


def probe(
    study: StudyFile, paths: StudyPaths, teachers: dict[str, Network], specs: list[RunSpec], *, students: bool
) -> None:
    """Measures T. stddev of every scheme, unless a fitting measurement is there already.

    With ``students`` the schemes that need one, on the first seed's student of the first scheme; without, all
    others.
    """
    needy = [name for name in study.grid.schemes if "student" in schemes.record(name).needs]
    wanted = needy if students else [name for name in study.grid.schemes if name not in needy]
    for pair in study.grid.pairs if wanted else ():
        name, _, student = pair.partition("/")
        network = teachers[name]
        target = probe_files(paths, name, student)[students]
        pupil = None
        if students:
            own = [s for s in specs if (s.teacher, s.student) == (name, student) and s.scheme not in needy]
            ready = [s for s in own if is_complete(s.paths(paths.root))]
            if not ready:
                continue
            pupil = ready[0].paths(paths.root).last
        asked = _asked(study, network, pupil, wanted, specs[0].dataset_sha256)
        if target.is_file() and _answered(target, asked):
            continue
        if not students and needy:
            say(f"{', '.join(needy)}: measured later, with a trained student")
        say(
            f"measuring {len(wanted)} scheme{'s' * (len(wanted) > 1)} with the teacher {name}"
            + (" and a student" if pupil else " alone")
        )
        answer = evaluate_da(
            wanted,
            dataset=study.study.dataset,
            data_path=study.study.data,
            teacher=network.source,
            arch=network.arch,
            student=pupil,
            student_arch=student if pupil else None,
            protocol=study.probe.protocol,
            tol=study.probe.tol,
            pools=study.probe.pools,
            batch_size=study.train.resolve().batch_size,
            draws=study.grid.draws,
            seed=study.probe.seed,
            device="cpu",
            progress=_tell(),
        )
        write_json_atomic(target, answer.to_dict())
        write_json_atomic(_question(target), asked)


def _asked(
    study: StudyFile, teacher: Network, student: Path | None, wanted: list[str], dataset_sha256: str
) -> dict[str, Any]:
    return {
        "schemes": wanted,
        "dataset": study.study.dataset,
        "dataset_sha256": dataset_sha256,
        "version": __version__,
        "teacher": teacher.sha256,
        "student": None if student is None else student.parent.name,
        "probe": study.probe.model_dump(),
        "batch_size": study.train.resolve().batch_size,
        "draws": study.grid.draws,
    }


def _tell() -> Callable[[Status], None]:
    """A line whenever the plan of a measurement changes."""
    told = 0

    def tell(status: Status) -> None:
        nonlocal told
        if status.target != told:
            told = status.target
            width = "" if status.half_width is None else f", widest interval ±{status.half_width:.1%}"
            say(f"  batch {status.done} of {told} planned{width}")

    return tell


def _question(target: Path) -> Path:
    """Where it is kept what a measurement was asked, beside the answer; written after it."""
    return target.with_suffix(".asked")


def _answered(target: Path, asked: dict[str, Any]) -> bool:
    try:
        return bool(json.loads(_question(target).read_text(encoding="utf-8")) == asked)
    except (OSError, ValueError):
        return False


def train_all(specs: list[RunSpec], paths: StudyPaths, workers: int) -> list[local.Outcome]:
    """Carries out every run that is not complete; returns the failed ones."""
    todo = [spec for spec in specs if not is_complete(spec.paths(paths.root))]
    if not todo:
        return []
    failed: list[local.Outcome] = []
    total = sum(spec.recipe.epochs for spec in specs)

    def counted() -> int:
        return sum(epochs_on_disk(specs, paths.root).values())

    with StudyProgress(total, counted()) as progress:
        ended = len(specs) - len(todo)

        def on_done(outcome: local.Outcome) -> None:
            nonlocal ended
            ended += 1
            progress.advance(counted())
            if outcome.error is not None:
                failed.append(outcome)
            word = "done" if outcome.error is None else f"FAILED ({outcome.error})"
            progress.say(f"[{ended}/{len(specs)}] {outcome.spec.title}  {word}")

        local.execute(todo, paths.root, workers, on_done, lambda: progress.advance(counted()))
    return failed


def run(file: Path, study: StudyFile, out: Path, workers: int) -> int:
    """The whole study; see the module's head. Raises ``IncompleteError`` when some runs failed."""
    started, clock = now(), time.perf_counter()
    paths = StudyPaths(out)
    out.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(out / ".lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        raise UsageError(
            f"another process is running the study in {out}; wait for it or choose another --out"
        ) from None
    with lock:
        _keep_settings(study, paths)
        train_set, test_set = (data.load(study.study.dataset, s, study.study.data) for s in ("train", "test"))
        teachers = teachers_of(study, train_set, paths, train=True)
        specs = make_specs(study, train_set, teachers)
        probe(study, paths, teachers, specs, students=False)
        failed = train_all(specs, paths, workers)
        probe(study, paths, teachers, specs, students=True)
        damaged = collect(paths, specs)
        write_json_atomic(
            out / "study.json",
            {
                "schema": "kdstats/study-card/1",
                "name": study.study.name,
                "dataset": {
                    "name": train_set.name,
                    "sha256": train_set.digest,
                    "train": len(train_set),
                    "test": len(test_set),
                    "classes": train_set.classes,
                },
                "pairs": list(study.grid.pairs),
                "schemes": list(study.grid.schemes),
                "seeds": list(study.grid.seeds),
                "draws": study.grid.draws,
                "recipe": asdict(study.train.resolve()),
                "kd": study.kd.model_dump(),
                "probe": study.probe.model_dump(),
                "teachers": {name: _teacher_card(n, test_set) for name, n in teachers.items()},
                "runs": {
                    "planned": len(specs),
                    "done": sum(is_complete(s.paths(out)) for s in specs),
                    "failed": [
                        {"teacher": s.teacher, "student": s.student, "scheme": s.scheme, "seed": s.seed}
                        | {"error": error, "log": str(s.paths(out).log)}
                        for s, error in damaged
                    ]
                    + [
                        {
                            "teacher": f.spec.teacher,
                            "student": f.spec.student,
                            "scheme": f.spec.scheme,
                            "seed": f.spec.seed,
                            "error": f.error,
                            "log": str(f.log),
                        }
                        for f in failed
                    ],
                },
                "selection": "last epoch",
                "provenance": {
                    **provenance("cpu"),
                    "started": started,
                    "seconds": round(time.perf_counter() - clock, 1),
                    "workers": workers,
                },
            },
        )
    if study.report.build:
        report(out)
    if failed or damaged:
        lines = [f"  {f.spec.title}: {f.error} (log: {f.log})" for f in failed]
        lines += [f"  {spec.title}: {error}" for spec, error in damaged]
        raise IncompleteError(
            f"{len(lines)} of {len(specs)} runs failed; everything else is complete and kept.\n"
            + "\n".join(lines)
            + f"\nThe same command tries them again: python -m runners.study run {file} --out {out}"
        )
    return 0


def _keep_settings(study: StudyFile, paths: StudyPaths) -> None:
    """Writes the settings with all overrides as ``study.toml``; refuses a folder that holds another study.

    Raises:
        UsageError: ``study.toml`` there differs in what decides the numbers of a run.
    """
    settings = study.model_dump(by_alias=True, exclude_none=True, mode="json")
    if paths.study_toml.exists():
        try:
            before = tomllib.loads(paths.study_toml.read_text(encoding="utf-8"))
        except ValueError:
            before = {}
        # A grid may grow; what decides the numbers of a run may not change under the same tables and page.
        fixed = ("study", "teacher", "train", "kd")
        changed = [section for section in fixed if before.get(section) != settings.get(section)]
        if changed:
            raise UsageError(
                f"{paths.root} holds a study with other settings under [{'], ['.join(changed)}] (see "
                f"{paths.study_toml}); choose another --out"
            )
    write_bytes_atomic(paths.study_toml, tomli_w.dumps(settings).encode())


def _teacher_card(network: Network, test_set: ImageSet) -> dict[str, Any]:
    result = measure(network.model, test_set)
    return {
        "arch": network.arch,
        "sha256": network.sha256,
        "path": network.source,
        "test_accuracy": result.accuracy,
        "test_loss": result.loss,
    }


def report(out: Path) -> None:
    """Starts ``python -m reports.build`` as a process; runners import neither analyses nor reports."""
    root = Path(__file__).resolve().parent.parent
    target = out.resolve()
    # Relative where it can be, so that a page made inside the checkout names no machine's folders.
    shown = target.relative_to(root) if target.is_relative_to(root) else target
    done = subprocess.run([sys.executable, "-m", "reports.build", str(shown)], cwd=root, check=False)
    if done.returncode:
        raise MissingError(
            f"the page of {out} could not be built (exit {done.returncode}); see the line above"
        )


def status(study: StudyFile, out: Path) -> int:
    """Prints every run and how far it is."""
    paths = StudyPaths(out)
    train_set = data.load(study.study.dataset, "train", study.study.data)
    specs = make_specs(study, train_set, teachers_of(study, train_set, paths, train=False))
    epochs = epochs_on_disk(specs, out)
    for spec in specs:
        run_paths = spec.paths(out)
        if is_complete(run_paths):
            word = "done"
        elif epochs[spec.digest]:
            word = f"epoch {epochs[spec.digest]}/{spec.recipe.epochs}"
        else:
            word = f"failed, see {run_paths.log}" if run_paths.log.exists() else "queued"
        print(f"{spec.title:<48} {word}")
    return 0


def plan(study: StudyFile, out: Path, workers: int) -> int:
    """Prints runs, hours and disk before anything starts."""
    paths = StudyPaths(out)
    train_set = data.load(study.study.dataset, "train", study.study.data)
    specs = make_specs(study, train_set, teachers_of(study, train_set, paths, train=False))
    print("\n".join(cost(specs, study, out, workers).lines(study)))
    return 0


def init(file: Path) -> int:
    """Writes a study file to start from; refuses to replace one."""
    if file.exists():
        raise UsageError(f"{file} exists; name another file")
    shutil.copyfile(_TEMPLATE, file)
    print(f"{file} written. Next: python -m runners.study plan {file} --out runs/{file.stem}")
    return 0


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m runners.study", description=__doc__.splitlines()[0])
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="init|plan|run|status|report")
    texts = {
        "init": "write a study file to start from",
        "plan": "show runs, hours and disk before anything starts",
        "run": "carry out the study, or continue it",
        "status": "show how far every run is",
        "report": "build the page again",
    }
    for verb, text in texts.items():
        sub = verbs.add_parser(verb, help=text, description=text)
        sub.add_argument("file", type=Path, metavar="STUDY.toml", help="the study file")
        if verb == "init":
            continue
        sub.add_argument(
            "--out", type=Path, required=True, help="folder of the study; the same folder continues"
        )
        sub.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="for example kd.temperature=2"
        )
        sub.add_argument(
            "--workers", type=int, default=default_workers(), help="processes (default: one per core)"
        )
    args = parser.parse_args(argv)
    if args.verb == "init":
        return init(args.file)
    keep_pages()
    if args.workers < 1:
        raise UsageError(f"at least 1 worker is needed, not {args.workers}")
    study = read_study(args.file, args.set)
    handlers: dict[str, Callable[[], int | None]] = {
        "plan": lambda: plan(study, args.out, args.workers),
        "run": lambda: run(args.file, study, args.out, args.workers),
        "status": lambda: status(study, args.out),
        "report": lambda: report(args.out),
    }
    return handlers[args.verb]() or 0


if __name__ == "__main__":
    sys.exit(run_program("runners.study", main, "the same command continues after the last whole epoch"))
