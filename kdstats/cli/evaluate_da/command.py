"""``kdstats evaluate-da``: which augmentation to distil with, measured on the teacher alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from kdstats.cli.evaluate_da.request import Request, parted

if TYPE_CHECKING:
    from kdstats.teacher.evaluation import Evaluation


def command(
    scheme: list[str] | None = typer.Option(
        None,
        help="Augmentation to measure, e.g. cutmix, cutmix@clovaai, 'pick(mixup)'; several with commas or by repeating. "
        "wang2022: the nine of the paper. `kdstats schemes list` shows all.",
        metavar="NAME",
    ),
    all_schemes: bool = typer.Option(
        False, "--all", help="Measure every registered augmentation instead of naming some."
    ),
    dataset: str | None = typer.Option(
        None,
        help="Data set whose training images are augmented; `kdstats datasets` lists them. "
        "[default: the one on the teacher's card, or the embedded digits when no teacher is named]",
        metavar="NAME",
        show_default=False,
    ),
    data: Path | None = typer.Option(
        None, help="Folder with the data set's files; not needed for digits.", metavar="PATH"
    ),
    img_size: int | None = typer.Option(
        None,
        "--img-size",
        help="Bring every image to this height and width. [default: what the teacher's card says, else as they are]",
        metavar="N",
        show_default=False,
    ),
    classes: str | None = typer.Option(
        None,
        help="Only these classes: a number (the first), names or indices separated by commas, or @FILE. "
        "[default: what the teacher's card says, else all]",
        metavar="N|LIST|@FILE",
        show_default=False,
    ),
    per_class: int | None = typer.Option(
        None,
        "--per-class",
        help="Only so many training images of each class. [default: all]",
        metavar="N",
        show_default=False,
    ),
    split: str = typer.Option(
        "train", help="Whose images are augmented: train (as published) or test.", metavar="NAME"
    ),
    teacher: str | None = typer.Option(
        None,
        help="The trained teacher: a weights file (.safetensors, .pth), torchvision:NAME, timm:NAME, "
        "hf-hub:org/name@revision, or package.module:factory. [default: the digits teacher inside kdstats]",
        metavar="FILE|NAME",
        show_default=False,
    ),
    arch: str | None = typer.Option(
        None,
        help="The network in the teacher's file, e.g. resnet20 (`kdstats models`), torchvision:resnet34, timm:NAME, "
        "package.module:factory. [default: what the card beside the file says, else what its tensors show]",
        metavar="NAME",
        show_default=False,
    ),
    student: str | None = typer.Option(
        None,
        help="Weights file of a trained student: needed by schemes that ask it, and makes the covariance that of "
        "teacher and student. [default: none; the teacher stands in]",
        metavar="FILE",
        show_default=False,
    ),
    student_arch: str | None = typer.Option(
        None,
        "--student-arch",
        help="The student's network. [default: what the card beside the weights says]",
        metavar="NAME",
        show_default=False,
    ),
    normalise: str | None = typer.Option(
        None,
        help="What the teacher's images are normalised with: imagenet, cifar100 …, none (pixels as fractions of one), "
        "data, or numbers MEAN/STD such as 0.5,0.5,0.5/0.25,0.25,0.25. [default: what its library or its card says, "
        "else the data set's own]",
        metavar="NAME|MEAN/STD",
        show_default=False,
    ),
    student_normalise: str | None = typer.Option(
        None,
        "--student-normalise",
        help="The same for the student. [default: likewise]",
        metavar="NAME|MEAN/STD",
        show_default=False,
    ),
    protocol: str = typer.Option(
        "efficient",
        help="efficient (same quantity, fewest passes, until --tol) or wang2022 (10 epochs, as published).",
        metavar="NAME",
    ),
    tol: float = typer.Option(
        0.02,
        help="Relative half-width of every interval at which efficient stops: 0.02 means ±2 %; wang2022 "
        "ignores it.",
    ),
    pools: int | None = typer.Option(
        None,
        help="Most pools (of 5 batches) to spend. [default: as many as 10 epochs hold]",
        metavar="N",
        show_default=False,
    ),
    batch_size: int = typer.Option(
        64, "--batch-size", help="Images per batch; part of what is measured: values at other sizes differ."
    ),
    draws: str | None = typer.Option(
        None,
        help="One random draw per batch (as published) or per sample; part of what is measured. "
        "[default: as presets say, else batch]",
        metavar="batch|sample",
        show_default=False,
    ),
    base: str | None = typer.Option(
        None,
        help="Standard augmentation under every scheme: none, flip, crop4, crop4+flip … "
        "[default: the data set's own]",
        metavar="NAME",
        show_default=False,
    ),
    device: str = typer.Option(
        "auto", help="Where to compute: auto (a GPU if there is one), cpu, cuda or cuda:N."
    ),
    seed: int = typer.Option(0, help="Seed of image order and draws; the same seed gives the same numbers."),
    confidence: float = typer.Option(0.95, help="Confidence of all intervals, between 0 and 1."),
    offline: bool = typer.Option(
        False, "--offline", help="Never download; the same as KDSTATS_OFFLINE=1 in the environment."
    ),
    out: Path | None = typer.Option(
        None,
        help="Folder for result.json, pools.parquet, convergence.png and index.html (a page to read and "
        "share). "
        "[default: nothing is written]",
        metavar="DIR",
        show_default=False,
    ),
    fmt: str = typer.Option(
        "table",
        "--format",
        help="table (for reading), json (one document with everything), csv (full precision), md or latex.",
        metavar="FORMAT",
    ),
) -> int:
    """Which augmentation to distil with, measured on the teacher alone, without training a student.

    Measures how much the teacher's mean probability varies under each augmentation (T. stddev); a lower value
    has gone with a better student. Example: kdstats evaluate-da --all --out kdstats-out
    """
    request = Request(
        scheme=tuple(name for given in scheme or () for name in parted(given)),
        all_schemes=all_schemes,
        dataset=dataset,
        data=data,
        img_size=img_size,
        classes=classes,
        per_class=per_class,
        split=split,
        teacher=teacher,
        arch=arch,
        student=student,
        student_arch=student_arch,
        normalise=normalise,
        student_normalise=student_normalise,
        protocol=protocol,
        tol=tol,
        pools=pools,
        batch_size=batch_size,
        draws=draws,
        base=base,
        device=device,
        seed=seed,
        confidence=confidence,
        out=out,
        fmt=fmt,
    )
    request.check()
    if offline:
        from kdstats.offline import switch_off

        switch_off()
    from kdstats.cli.evaluate_da.text import render, side_notes

    if request.out is not None:
        from kdstats.cli.evaluate_da.out import check_folder

        check_folder(request.out)
    settled = request.settled()
    evaluation = _measure(settled)
    document = evaluation.to_dict()
    note = request.data_note(settled)
    written: list[Path] = []
    if request.out is not None:
        from kdstats.cli.evaluate_da.out import write_folder

        written = write_folder(request.out, evaluation, document, settled.command(), note)
    typer.echo(render(request.fmt, document, note, written), nl=False)
    if request.fmt != "table":  # there the table holds nothing but the table
        for line in side_notes(document, written):
            typer.echo(line, err=True)
    return 0


def _measure(request: Request) -> Evaluation:
    from kdstats.cli.evaluate_da.progress import progress
    from kdstats.teacher.evaluate import evaluate_da

    with progress(request.tol if request.protocol == "efficient" else None) as report:
        return evaluate_da(
            request.scheme,
            all_schemes=request.all_schemes,
            dataset=request.dataset or "digits",
            data_path=request.data,
            img_size=request.img_size,
            classes=request.classes,
            per_class=request.per_class,
            split=request.split,
            teacher=request.teacher,
            arch=request.arch,
            student=request.student,
            student_arch=request.student_arch,
            normalise=request.normalise,
            student_normalise=request.student_normalise,
            protocol=request.protocol,
            tol=request.tol,
            pools=request.pools,
            batch_size=request.batch_size,
            draws=request.draws,
            base=request.base,
            device=request.device,
            seed=request.seed,
            confidence=request.confidence,
            progress=report,
        )
