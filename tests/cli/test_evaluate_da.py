from __future__ import annotations

import copy
import csv
import io
import json
import math
import os
import pty
import re
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from pydantic import ValidationError

from kdstats import models, schemes
from kdstats.cli import main
from kdstats.cli.evaluate_da.out import FILES
from kdstats.console import run_program
from kdstats.pages import evaluate_da_facts as facts
from kdstats.teacher.load import shipped_path
from tests.contract.evaluate_da_schema import EvaluateDA

PROGRESS = re.compile(r"progress batches=\d+/\d+( half_width=\d\.\d+)?( tol=\S+)? seconds=[\d.]+")
QUICK = ("evaluate-da", "--scheme", "cutmix", "--tol", "0.08")


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Tiny networks: more threads than free cores wait for each other.
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def run(capsys, monkeypatch):
    def program(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["kdstats", *map(str, arguments)])
        code = run_program("kdstats", main._run)
        return code, *capsys.readouterr()

    return program


@pytest.fixture
def misfit(tmp_path):
    """Weights of another network than the one they will be said to be, without a card."""
    path = tmp_path / "lenet8.safetensors"
    models.save_weights(models.build("lenet8", 10, 8, 1), path)
    return path


def document_of(run, *arguments: object) -> dict:
    code, out, err = run(*arguments, "--format", "json")
    assert code == 0, err
    return json.loads(out)


def timeless(document: dict) -> dict:
    out = copy.deepcopy(document)
    for key in ("started", "seconds", "command"):
        out["provenance"].pop(key)
    for result in out["results"]:
        result.pop("seconds")
    return out


def test_json_is_one_document_that_keeps_the_contract(run):
    code, out, err = run(*QUICK, "--scheme", "mixup", "--format", "json")
    assert code == 0
    document = json.loads(out)  # raises on a second document or on any other word
    EvaluateDA.model_validate(document)
    assert [r["scheme"] for r in document["results"]] == ["cutmix", "mixup", "identity"]
    assert [c["a"] for c in document["comparisons"]] == ["cutmix", "mixup"]
    for result in document["results"]:
        assert result["low"] < result["t_stddev"] < result["high"]
        assert sum(result["components"].values()) > 0
    assert document["provenance"]["command"].startswith("kdstats evaluate-da --scheme cutmix")
    lines = err.splitlines()
    assert len(lines) >= 2
    assert all(PROGRESS.fullmatch(line) for line in lines), lines
    done, target = re.search(r"batches=(\d+)/(\d+)", lines[-1]).groups()
    assert done == target == str(document["shared"]["batches"])


def test_the_contract_refuses_other_keys_and_types(run):
    document = document_of(run, *QUICK)
    for change in (
        lambda d: d.update(extra=1),
        lambda d: d["results"][0].update(extra=1),
        lambda d: d["results"][0].pop("design_effect"),
        lambda d: d["results"][0].update(t_stddev="0.01"),
        lambda d: d.update(schema="kdstats/evaluate-da/2"),
    ):
        broken = copy.deepcopy(document)
        change(broken)
        with pytest.raises(ValidationError):
            EvaluateDA.model_validate(broken)


def test_a_seed_gives_the_same_numbers_and_another_seed_others(run):
    one, two, other = (document_of(run, *QUICK, "--seed", seed) for seed in (3, 3, 4))
    assert timeless(one) == timeless(two)
    assert one["results"][0]["t_stddev"] != other["results"][0]["t_stddev"]


def test_both_protocols_agree_within_their_intervals(run):
    schemes = ("--scheme", "cutmix", "--scheme", "mixup", "--seed", 1)
    published = document_of(run, "evaluate-da", *schemes, "--protocol", "wang2022")
    efficient = document_of(run, "evaluate-da", *schemes, "--tol", "0.04", "--seed", 2)
    assert published["results"][0]["stopped"] == "epochs"
    assert published["results"][0]["pools"] == 40
    for name in ("cutmix", "mixup", "identity"):
        a, b = facts.result(published, name), facts.result(efficient, name)
        gap = abs(math.log(a["t_stddev"] / b["t_stddev"]))
        assert gap <= math.hypot(facts.half_width(a), facts.half_width(b)), name


def test_table(run):
    code, out, err = run("evaluate-da", "--all", "--pools", 10, "--tol", "0.01")
    assert code == 0
    assert all(PROGRESS.fullmatch(line) for line in err.splitlines())
    assert "\x1b[" not in out + err
    lines = out.splitlines()
    assert lines[0].startswith("teacher   digits-resnet8 · 98.6 % test accuracy, loss 0.0")
    assert "(embedded default; name your own with --dataset, --data and --teacher)" in lines[2]
    assert "T. stddev over pools of 640 inputs (5 batches of 64, original + view), T = 1" in out
    start = next(i for i, line in enumerate(lines) if line.startswith("  scheme"))
    teacher_only = {n for n in schemes.names() if "student" not in schemes.record(n).needs}
    rows = [line.split() for line in lines[start + 1 : start + 2 + len(teacher_only)]]
    values = [float(row[1]) for row in rows[:-1]]
    assert values == sorted(values)
    assert {row[0] for row in rows[:-1]} == teacher_only
    assert rows[-1][0] == "null"
    assert f"Lowest: {rows[0][0]} (P " in out
    assert "Stopped after 10 pools, the most allowed, before ±1 % was reached" in out
    assert "What this has been worth: lowest T. stddev was the best scheme in 9 of 10" in out
    assert "cutmix_pick_student ranks views by the student's output: add --student FILE." in out
    assert "cutmix_pick_kl ranks views by the student's output: add --student FILE." in out


def test_the_published_nine_have_a_name(run):
    rows = document_of(run, "evaluate-da", "--scheme", "wang2022", "--scheme", "same", "--pools", 5)
    assert {row["scheme"] for row in rows["results"]} == {*schemes.PUBLISHED_NINE, "same"} - {
        "cutmix_pick_student"
    }


def test_a_named_default_is_no_default(run):
    _, out, _ = run(*QUICK, "--dataset", "digits")
    assert "embedded default" not in out


def test_csv_keeps_full_precision_and_the_words_go_to_stderr(run):
    document = document_of(run, *QUICK)
    code, out, err = run(*QUICK, "--format", "csv")
    assert code == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    by_name = {row["scheme"]: row for row in rows}
    for result in document["results"]:
        assert float(by_name[result["scheme"]]["t_stddev"]) == result["t_stddev"]
        design = float(by_name[result["scheme"]]["covariance.design_effect"])
        assert design == result["covariance"]["design_effect"]
    relative = float(by_name["cutmix"]["vs_identity.relative"])
    assert relative == document["comparisons"][0]["relative"]
    assert "Lowest" not in err + out


@pytest.mark.parametrize(("fmt", "first"), [("md", "| scheme |"), ("latex", r"\begin{tabular}")])
def test_md_and_latex_hold_the_table_alone(run, fmt, first):
    code, out, _ = run(*QUICK, "--format", fmt)
    assert code == 0
    assert out.startswith(first)
    assert "Lowest" not in out


def test_out_writes_four_files_from_which_any_pool_can_be_formed(run, tmp_path):
    folder = tmp_path / "deep" / "out"
    arguments = ("evaluate-da", "--scheme", "mixup", "--protocol", "wang2022", "--pools", 12, "--out", folder)
    code, out, _ = run(*arguments)
    assert code == 0
    assert str(folder / "index.html") in out
    assert sorted(p.name for p in folder.iterdir()) == sorted(FILES)
    document = json.loads((folder / "result.json").read_text())
    EvaluateDA.model_validate(document)
    assert (folder / "convergence.png").read_bytes().startswith(b"\x89PNG")
    pools = pq.read_table(folder / "pools.parquet").to_pandas()
    assert list(pools.groupby("scheme").size()) == [60, 60, 60]
    originals, views = (np.stack(pools[pools.scheme == name].mean_prob) for name in ("original", "mixup"))
    means = (0.5 * (originals + views)).reshape(12, 5, -1).mean(axis=1)
    measured = facts.result(document, "mixup")["t_stddev"]
    assert means.std(axis=0, ddof=1).mean() == pytest.approx(measured, rel=1e-12)


def test_out_replaces_its_own_files_and_no_others(run, tmp_path):
    folder = tmp_path / "out"
    assert run(*QUICK, "--out", folder)[0] == 0
    (folder / "notes.txt").write_text("mine")
    assert run(*QUICK, "--seed", 5, "--out", folder)[0] == 0
    assert json.loads((folder / "result.json").read_text())["shared"]["seed"] == 5
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["index.html", "result.json"])
def test_out_refuses_a_folder_where_it_would_replace_something_of_others(run, tmp_path, name):
    (tmp_path / name).write_text('{"schema": "mine"}')
    code, out, err = run(*QUICK, "--out", tmp_path)
    assert (code, out) == (2, "")
    assert name in err
    assert (tmp_path / name).read_text() == '{"schema": "mine"}'
    assert [p.name for p in tmp_path.iterdir()] == [name]


def test_out_refuses_a_file(run, tmp_path):
    (tmp_path / "taken").write_text("")
    for path in (tmp_path / "taken", tmp_path / "taken" / "deeper"):
        code, out, err = run(*QUICK, "--out", path)
        assert (code, out) == (2, "")
        assert "is a file" in err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["--scheme", "cutmx"], 2, ["no scheme named 'cutmx'", "'cutmix'"]),
        ([], 2, ["--scheme cutmix", "--all"]),
        (["--all", "--scheme", "cutmix"], 2, ["--scheme and --all"]),
        (["--scheme", "cutmix_pick_student"], 2, ["--student FILE"]),
        (["--scheme", "cutmix", "--seed", "-1"], 2, ["--seed"]),
        (["--scheme", "cutmix", "--format", "jsn"], 2, ["'json'"]),
        (["--scheme", "cutmix", "--protocol", "wang2023"], 2, ["'wang2022'"]),
        (["--scheme", "cutmix", "--draws", "pool"], 2, ["batch, sample"]),
        (["--scheme", "cutmix", "--tol", "2"], 2, ["tolerance"]),
        (["--scheme", "cutmix", "--confidence", "95"], 2, ["95"]),
        (["--scheme", "cutmix", "--base", "crop"], 2, ["crop4+flip"]),
        (["--scheme", "cutmix", "--device", "gpu"], 2, ["gpu"]),
        (["--scheme", "cutmix", "--dataset", "digit"], 2, ["'digits'"]),
        (["--scheme", "cutmix", "--data", "."], 2, ["--dataset"]),
        (["--scheme", "cutmix", "--arch", "resnet8"], 2, ["--teacher FILE"]),
        (["--scheme", "cutmix", "--student-arch", "resnet8"], 2, ["--student FILE"]),
        (["--scheme", "cutmix", "--teacher", "{misfit}"], 2, ["--dataset NAME"]),
        (["--scheme", "cutmix", "--teacher", "/no/t.safetensors"], 4, ["/no/t.safetensors"]),
        (["--scheme", "cutmix", "--data", "/no/d", "--teacher", "/no/t.pth"], 4, ["no teacher at /no/t.pth"]),
        (
            ["--scheme", "cutmix", "--dataset", "cifar100", "--data", "/no/d", "--teacher", "/no/t.pth"],
            4,
            ["runners.teacher --dataset cifar100 --data /no/d --out /no/t.safetensors` trains one"],
        ),
        (["--scheme", "cutmix", "--teacher", "x" * 5000], 4, ["File name too long"]),
        (
            ["--scheme", "cutmix", "--teacher", "torchvison:resnet18"],
            2,
            ["did you mean torchvision:resnet18?"],
        ),
        (["--scheme", "cutmix", "--teacher", "sys:exit", "--dataset", "digits"], 2, ["Python itself"]),
        (["--scheme", "cutmix", "--normalise", "imagenet"], 2, ["--teacher FILE"]),
        (["--scheme", "cutmix", "--student-normalise", "imagenet"], 2, ["--student FILE"]),
        (["--scheme", "cutmix", "--teacher", "{shipped}", "--normalise", "imagnet"], 2, ["'imagenet'"]),
        (
            ["--scheme", "cutmix", "--dataset", "digits", "--student", "/no/s.safetensors"],
            4,
            ["/no/s.safetensors"],
        ),
        (
            ["--scheme", "cutmix", "--dataset", "cifar100", "--data", "/no/where", "--teacher", "{shipped}"],
            4,
            ["/no/where"],
        ),
        (
            ["--scheme", "cutmix", "--dataset", "digits", "--teacher", "{misfit}", "--arch", "resnet8"],
            4,
            ["layer1", "bn2", "lenet8.safetensors"],
        ),
    ],
)
def test_errors_are_one_sentence_with_the_right_code(run, misfit, arguments, code, said):
    words = [a.format(misfit=misfit, shipped=shipped_path()) for a in arguments]
    found, out, err = run("evaluate-da", *words)
    assert (found, out) == (code, "")
    assert err.startswith("kdstats: ")
    assert err.count("\n") == 1
    for word in said:
        assert word in err


def test_the_data_set_comes_from_the_teachers_card(run):
    _, out, _ = run(*QUICK, "--teacher", shipped_path())
    assert "(named by the teacher's card)" in out


def test_what_the_card_says_is_the_default_and_part_of_the_command(run, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "three.safetensors"
    models.save_weights(models.build("lenet8", 3, 16, 1), weights)
    fields = {
        "arch": "lenet8",
        "dataset": "digits",
        "class_names": ["0", "1", "3"],
        "img_size": 16,
        "selection": {"img_size": 16, "classes": "0,1,3", "per_class": None, "val_split": None},
        "mean": [0.3],
        "std": [0.4],
    }
    weights.with_suffix(".json").write_text(json.dumps(fields))
    folder = tmp_path / "out"
    arguments = ("evaluate-da", "--scheme", "flip", "--tol", "0.9", "--pools", 5, "--batch-size", 16)
    code, out, err = run(*arguments, "--teacher", weights, "--out", folder)
    assert code == 0, err
    assert "(named by the teacher's card; --img-size and --classes as on the teacher's card)" in out
    assert "3 classes · standard augmentation crop2 · mean 0.3, std 0.4" in out
    document = json.loads((folder / "result.json").read_text())
    EvaluateDA.model_validate(document)
    assert (document["teacher"]["mean"], document["teacher"]["std"]) == ([0.3], [0.4])
    page = (folder / "index.html").read_text()
    reproduce = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL).group(1)
    assert "--img-size 16" in reproduce
    assert "--classes 0,1,3" in reproduce
    # An untrained network: said in the text, in the document and on the page; and none of it of a good one.
    (warning,) = document["warnings"]
    assert warning["name"] == "teacher-at-chance"
    assert f"Warning (teacher-at-chance): {warning['text']}." in out
    assert "Warning (teacher-at-chance)" in page
    code, out, err = run(*arguments, "--teacher", weights, "--format", "csv")
    assert "Warning (teacher-at-chance)" in err
    assert "Warning" not in out
    code, _, err = run(*arguments, "--teacher", weights, "--classes", "0,1,2")
    assert code == 4
    assert "3 missing here, 2 not known to it; --classes 0,1,3" in err


def test_another_normalisation_is_another_teacher(run):
    given = ("--teacher", shipped_path(), "--normalise")
    own, data, other = (document_of(run, *QUICK, *given, text) for text in ("0.3053/0.376", "data", "none"))
    assert timeless(own)["results"] == timeless(data)["results"]
    assert own["warnings"] == []
    assert (other["teacher"]["mean"], other["teacher"]["std"]) == ([0.0], [1.0])
    assert other["results"][0]["t_stddev"] != own["results"][0]["t_stddev"]
    assert other["teacher"]["test_loss"] > own["teacher"]["test_loss"]


def test_ctrl_c_ends_with_130_and_writes_nothing(run, tmp_path, monkeypatch):
    def interrupted(*_args, **_options):
        raise KeyboardInterrupt

    monkeypatch.setattr("kdstats.teacher.evaluate.evaluate_da", interrupted)
    code, out, err = run(*QUICK, "--out", tmp_path / "out")
    assert (code, out) == (130, "")
    assert "interrupted" in err
    assert not (tmp_path / "out").exists()


def test_on_a_terminal_the_bar_is_on_stderr_and_without_colour_if_asked():
    ours, theirs = pty.openpty()
    run = [sys.executable, "-m", "kdstats.cli.main", *QUICK, "--format", "json"]
    environment = os.environ | {"NO_COLOR": "1", "TERM": "xterm", "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(run, stdout=subprocess.PIPE, stderr=theirs, env=environment) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                chunk = os.read(ours, 4096)
            except OSError:  # Linux: the other end is closed
                break
            if not chunk:
                break
            shown += chunk
        EvaluateDA.model_validate(json.loads(process.stdout.read()))
    os.close(ours)
    text = shown.decode()
    assert "measuring" in text
    assert "until ±8 %" in text
    assert "progress batches" not in text
    assert not re.search(r"\x1b\[[0-9;]*3\d[;m]", text), "a colour in spite of NO_COLOR"


def test_reproduce_command_gives_the_same_document(run, tmp_path):
    folder = tmp_path / "out"
    first = document_of(run, *QUICK, "--draws", "sample", "--base", "none", "--out", folder)
    page = (folder / "index.html").read_text()
    printed = re.search(r"<pre>(.*?)</pre>", page, re.DOTALL).group(1).replace("\\\n", " ")
    again = document_of(run, *printed.split()[1:])
    assert timeless(again) == timeless(first)


def test_every_option_is_explained(run):
    _, out, _ = run("evaluate-da", "--help")
    text = " ".join(out.split())
    options = (
        "--scheme --all --dataset --data --teacher --arch --student --student-arch --normalise --student-normalise "
        "--protocol --tol --pools "
        "--batch-size --draws --base --device --seed --confidence --out --format"
    )
    for option in options.split():
        assert re.search(rf"{option}\b \S*", text), option


def test_help_loads_nothing_heavy():
    code = (
        "import sys\n"
        "from kdstats.cli import main\n"
        "try: main.app(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = ('torch', 'numpy', 'pandas', 'scipy', 'matplotlib', 'jinja2', 'pyarrow', 'rich.progress')\n"
        "print([m for m in heavy if m in sys.modules], file=sys.stderr)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "evaluate-da" in out.stdout
    assert out.stderr.strip() == "[]"


@pytest.mark.data
def test_a_subset_a_size_and_a_factory_of_ones_own(run, tiny_imagenet_tar, tmp_path, monkeypatch):
    """The sample of Tiny ImageNet, three of its classes at 32 pixels, asked of a network from the user's module."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet_cli.py").write_text(
        "from torch import nn\n"
        "def make(num_classes, img_size):\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(3 * img_size * img_size, num_classes))\n"
    )
    code, out, err = run(
        *(
            "evaluate-da",
            "--scheme",
            "cutmix",
            "--dataset",
            "tiny-imagenet",
            "--data",
            tiny_imagenet_tar,
            "--classes",
            3,
        ),
        *(
            "--per-class",
            50,
            "--img-size",
            32,
            "--batch-size",
            8,
            "--teacher",
            "mynet_cli:make",
            "--tol",
            0.5,
        ),
        *("--format", "json"),
    )
    assert code == 0, err
    found = json.loads(out)
    assert (found["dataset"]["n"], found["dataset"]["classes"]) == (150, 3)
    assert found["teacher"]["arch"] == "mynet_cli:make"
    command = found["provenance"]["command"]
    assert "--offline" not in command
    whole = json.loads(
        run(
            *(
                "evaluate-da",
                "--scheme",
                "cutmix",
                "--dataset",
                "tiny-imagenet",
                "--data",
                tiny_imagenet_tar,
                "--img-size",
                32,
            ),
            *("--teacher", "mynet_cli:make", "--tol", 0.9, "--pools", 5, "--format", "json"),
        )[1]
    )
    assert whole["dataset"]["classes"] == 20
    assert whole["dataset"]["sha256"] != found["dataset"]["sha256"]


def test_offline_is_honoured(run, monkeypatch, tmp_path):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("KDSTATS_OFFLINE", raising=False)
    code, _, err = run(
        *(
            "evaluate-da",
            "--scheme",
            "flip",
            "--dataset",
            "digits",
            "--teacher",
            "timm:resnet18.a1_in1k",
            "--offline",
        )
    )
    assert code == 4
    assert "knows 1000 classes, digits has 10" in err
    monkeypatch.delenv("KDSTATS_OFFLINE", raising=False)


def test_streamed_images_are_measured_like_held_ones(run, tmp_path):
    """ImageNet's folders, a hundred small classes of them, read by the DataLoader."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 4), ("val", 1)):
        for c in range(100):
            folder = tmp_path / "in100" / split / f"n{c:08d}"
            folder.mkdir(parents=True)
            for i in range(count):
                w, h = rng.integers(40, 90, 2)
                pixels = rng.integers(0, 256, (h, w, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.JPEG")
    torch.manual_seed(0)
    weights = tmp_path / "teacher.safetensors"
    models.save_weights(models.build("resnet8", 100, 32), weights, {"arch": "resnet8"})
    document = document_of(
        run,
        *(
            "evaluate-da",
            "--scheme",
            "cutmix",
            "--dataset",
            "imagenet100",
            "--data",
            tmp_path / "in100",
            "--img-size",
            32,
        ),
        *("--teacher", weights, "--arch", "resnet8", "--batch-size", 8, "--pools", 8),
    )
    assert document["dataset"]["n"] == 400
    assert document["definition"]["base"] == "resizedcrop+flip"
    assert [row["scheme"] for row in document["results"]] == ["cutmix", "identity"]
    assert document["results"][0]["t_stddev"] > 0


def test_the_test_images_can_be_augmented_instead(run):
    train, test = (document_of(run, *QUICK, "--split", split, "--seed", 3) for split in ("train", "test"))
    assert (train["dataset"]["split"], test["dataset"]["split"]) == ("train", "test")
    assert (train["dataset"]["n"], test["dataset"]["n"]) == (1280, 517)
    assert train["results"][0]["t_stddev"] != test["results"][0]["t_stddev"]
    code, _, err = run(*QUICK, "--split", "val")
    assert code == 2
    assert "no split named 'val'" in err


def test_several_schemes_may_be_parted_by_commas(run):
    few = ("--tol", 0.5)
    named = ("evaluate-da", "--scheme")
    apart = document_of(run, *named, "identity", "--scheme", "cutmix(alpha=0.5,p=0.9)", *few)
    together = document_of(run, *named, "identity, cutmix(alpha=0.5,p=0.9)", *few)
    assert [row["scheme"] for row in together["results"]] == [row["scheme"] for row in apart["results"]]
    assert len(together["results"]) == 2
