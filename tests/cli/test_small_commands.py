from __future__ import annotations

import csv
import io
import json
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from kdstats import models, schemes
from kdstats.cli import main
from kdstats.console import run_program

COMMANDS = [["schemes", "list"], ["schemes", "show", "cutmix"], ["datasets"], ["models"]]


@pytest.fixture
def run(capsys, monkeypatch):
    def program(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdstats", *map(str, arguments)])
        code = run_program("kdstats", main._run)
        return code, *capsys.readouterr()

    return program


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fmt", ["table", "json", "csv", "md", "latex"])
def test_formats(run, command, fmt):
    code, out, err = run(*command, "--format", fmt)
    assert (code, err) == (0, "")
    if fmt == "json":
        assert json.loads(out)
    elif fmt == "csv":
        rows = list(csv.reader(io.StringIO(out)))
        assert len(rows) > 1
        assert len({len(row) for row in rows}) == 1
    else:
        assert out.startswith({"md": "| ", "latex": r"\begin{tabular}"}.get(fmt, "name"))


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_format_is_refused(run, command):
    code, out, err = run(*command, "--format", "yaml")
    assert (code, out) == (2, "")
    assert "yaml" in err


def test_schemes_list_holds_every_scheme(run):
    rows = json.loads(run("schemes", "list", "--format", "json")[1])
    assert [row["name"] for row in rows] == schemes.names()
    assert {row["name"]: row["needs"] for row in rows}["cutmix_pick_kl"] == "student, teacher"


def test_schemes_show_says_rules_and_parameters(run):
    shown = json.loads(run("schemes", "show", "cutmix-pick-teacher", "--format", "json")[1])
    assert shown["name"] == "cutmix_pick_teacher"
    assert (
        shown["parameters"].items()
        >= {"criterion": "teacher", "runs": 2, "tau": 4.0, "cutmix: alpha": 1.0}.items()
    )
    assert shown["does"]["cutmix: λ"].startswith("λ ~ Beta(1, 1), one per batch; recomputed")
    assert shown["targets"] == ["teacher", "interpolated", "labels"]
    assert shown["presets"] == ["cutmix_pick_teacher@wang2022"]
    assert "box of the partner" in shown["rules"]
    assert "`" not in shown["rules"]
    assert ":meth:" not in shown["rules"]
    assert "Raises" not in shown["rules"]


def test_schemes_show_takes_expressions(run):
    shown = json.loads(run("schemes", "show", "cutmix@clovaai", "--format", "json")[1])
    assert shown["parameters"]["p"] == 0.5
    assert shown["does"]["acts"].startswith("with probability 0.5")
    assert "ICCV 2019" in shown["reference"]
    shown = json.loads(run("schemes", "show", "partial_mixup@mixkd", "--format", "json")[1])
    assert shown["draws"] == "sample"
    assert "40.8%" in shown["does"]["unmixed"]
    code, out, _ = run("schemes", "show", "crop_flip+pick(mixup, runs=3)")
    assert code == 0
    assert "of 3 draws of mixup" in out
    code, _, err = run("schemes", "show", "full_mixup@mixkd", "--draws", "batch")
    assert code == 2
    assert "draws once per sample" in err


def test_schemes_check(run, monkeypatch):
    code, out, err = run("schemes", "check", "mixup")
    assert (code, err) == (0, "")
    assert out.count("keeps all promises") == 10
    from kdstats.schemes.mixing.mixup import Mixup

    monkeypatch.setattr(
        Mixup,
        "_pairing",
        lambda self, images, draw: (
            *[torch.arange(len(images))] * 2,
            draw.params["lam"].expand(len(images)) * 0,
        ),
    )
    code, out, err = run("schemes", "check", "mixup")
    assert code == 5
    assert "mixup breaks its promises" in err
    assert "λ is not the share" in out


@pytest.mark.parametrize("name", schemes.names())
def test_every_scheme_can_be_shown_and_drawn(run, tmp_path, name):
    if "student" in schemes.record(name).needs:
        weights = tmp_path / "student.safetensors"
        models.save_weights(models.build("lenet8", 10, 8, 1), weights)
        extra = ["--student", weights, "--student-arch", "lenet8"]
    else:
        extra = []
    path = tmp_path / "sheet.png"
    code, out, err = run("schemes", "show", name, "--out", path, *extra)
    assert code == 0
    assert re.match(rf"name +{name} ", out)
    assert "8 training images of digits" in err
    with Image.open(path) as image:
        assert image.width > 2 * image.height
        assert np.asarray(image.convert("L")).std() > 20


def test_the_sheet_holds_originals_and_their_views():
    from kdstats.cli.schemes_show import SheetRequest, sheet_cells

    request = SheetRequest("digits", None, None, None, None, None, "sample", 0)
    same = sheet_cells("identity", request)
    assert len(same) == 8
    for cell in same:
        np.testing.assert_allclose(cell.view, cell.original, atol=1e-6)
        assert cell.target() == cell.label
    mixed = sheet_cells("cutmix", request)
    for cell, plain in zip(mixed, same, strict=True):
        np.testing.assert_array_equal(cell.original, plain.original)
        unlike = np.abs(cell.view - cell.original).max(axis=2) > 1e-4
        assert unlike.mean() <= 1 - cell.lam + 1e-6  # the box of the partner and nothing outside it
    assert any((np.abs(cell.view - cell.original) > 1e-4).any() for cell in mixed)


def test_the_sheet_draws_what_it_is_given():
    from kdstats.figures.contact_sheet import Cell, contact_sheet

    black, white = np.zeros((8, 8, 1), np.float32), np.ones((8, 8, 3), np.float32)
    cells = [Cell(black, white, "one", "two", 0.25), Cell(black, white, "$x", "$x", 1.0)]
    figure, facts = contact_sheet(cells, "mix", "digits", "batch", 3)
    above, below = figure.axes[:2], figure.axes[2:]
    assert all(float(np.asarray(ax.images[0].get_array()).max()) == 0 for ax in above)
    assert all(float(np.asarray(ax.images[0].get_array()).min()) == 1 for ax in below)
    assert [ax.get_xlabel() for ax in below] == ["λ = 0.25\none\n+ two", r"\$x"]
    assert facts.caption() == (
        "mix on 2 training images of digits (one draw per batch, seed 3): originals above, views below, "
        "under each view λ and class of both images."
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["schemes", "show", "cutmx"], 2, "'cutmix'"),
        (["schemes", "show", "cutmix_pick_student", "--out", "{folder}/a.png"], 2, "--student FILE"),
        (["schemes", "show", "cutmix", "--out", "{folder}/a.jpg"], 2, ".png, .pdf, .svg"),
        (["schemes", "show", "cutmix", "--out", "{folder}/no/a.png"], 4, "no folder"),
        (["schemes", "show", "cutmix", "--dataset", "digit", "--out", "{folder}/a.png"], 2, "'digits'"),
        (["schemes", "show", "cutmix", "--draws", "pool"], 2, "batch, sample"),
        (["models", "--classes", "1"], 2, "2 classes"),
        (["models", "--img-size", "4"], 2, "8x8"),
    ],
)
def test_errors(run, tmp_path, arguments, code, said):
    found, out, err = run(*[a.format(folder=tmp_path) for a in arguments])
    assert (found, out) == (code, "")
    assert said in err
    assert err.count("\n") == 1


def test_models_counts_what_is_built(run):
    rows = {r["name"]: r["parameters"] for r in json.loads(run("models", "--format", "json")[1])}
    assert list(rows) == models.names()
    for name in ("resnet20", "wrn_16_1"):
        built = models.build(name, 100)
        assert rows[name] == sum(p.numel() for p in built.parameters())
        assert next(built.parameters()).device == torch.device("cpu")


def test_datasets_say_what_they_need(run):
    rows = {r["name"]: r for r in json.loads(run("datasets", "--format", "json")[1])}
    assert rows["digits"]["files"] == "embedded"
    assert rows["cifar100"]["files"] == "needed"
    assert rows["cifar100"]["classes"] == 100
