"""A loaded study with numbers of one's own: losses of every run, T. stddev, rivals and parts of the variance."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from analyses.study import Study
from analyses.study.measured import Document


def planted(
    study: Study,
    *,
    loss: Callable[[str, str, int], float],
    t: Mapping[str, float] | None = None,
    rivals: Mapping[str, Mapping[str, float]] | None = None,
    parts: Mapping[str, Mapping[str, float]] | None = None,
    acc: Callable[[float], float] = lambda value: 1 - value / 3,
) -> Study:
    """``study`` with other numbers.

    Args:
        study: Of :func:`synthetic_study.make_study`.
        loss: Pair, scheme and seed → test loss of the run.
        t: Scheme → T. stddev.
        rivals: Name under ``rivals`` → scheme → value.
        parts: Scheme → parts of the variance.
        acc: Test loss → accuracy.
    """
    runs = study.runs.copy()
    runs["test_loss_last"] = [loss(r["pair"], r["scheme"], int(r["seed"])) for r in runs.to_dict("records")]
    runs["acc_last"] = runs["test_loss_last"].map(acc)
    rows = study.study.copy()
    groups = runs[~runs["excluded"]].groupby(["pair", "scheme"])["test_loss_last"]
    for i, row in enumerate(rows.to_dict("records")):
        own = groups.get_group((row["pair"], row["scheme"]))
        rows.loc[i, "test_loss"] = own.mean()
        rows.loc[i, "test_loss_sd"] = own.std(ddof=1)
        rows.loc[i, "test_loss_se"] = own.std(ddof=1) / math.sqrt(len(own))
        rows.loc[i, "acc"] = own.map(acc).mean()
        if t is not None:
            rows.loc[i, "t_stddev"] = t[row["scheme"]]
    documents = {
        teacher: tuple(_document(d, t, rivals, parts) for d in found)
        for teacher, found in study.documents.items()
    }
    return replace(study, runs=runs, study=rows, documents=documents)


def _document(
    document: Document,
    t: Mapping[str, float] | None,
    rivals: Mapping[str, Mapping[str, float]] | None,
    parts: Mapping[str, Mapping[str, float]] | None,
) -> Document:
    schemes = {}
    for name, measured in document.schemes.items():
        row: dict[str, Any] = dict(measured.row)
        if t is not None:
            row["t_stddev"] = t[name]
        if rivals is not None:
            row["rivals"] = {key: values[name] for key, values in rivals.items() if name in values}
        if parts is not None:
            row["components"] = dict(parts[name])
        schemes[name] = replace(measured, row=row)
    return replace(document, schemes=schemes)
