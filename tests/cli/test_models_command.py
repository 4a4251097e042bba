"""``kdstats models``."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from kdstats import models
from kdstats.cli.main import app
from kdstats.errors import UsageError


def output(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["models", *arguments], catch_exceptions=False, standalone_mode=False)
    assert result.return_value == 0
    return result.stdout


def test_json_has_whole_numbers_and_shapes():
    rows = {row["name"]: row for row in json.loads(output("--format", "json"))}
    assert list(rows) == models.names()
    assert rows["ShuffleV1"] == {
        "name": "ShuffleV1",
        "parameters": 949_258,
        "multiply_adds": 38_691_456,
        "features": 5,
        "shapes": [[24, 32, 32], [240, 16, 16], [480, 8, 8], [960, 4, 4], [960]],
        "sizes": "32",
    }
    assert rows["MobileNetV2"]["sizes"] == "multiples of 32"
    assert rows["resnet20"]["sizes"] == "8 or more"


def test_options_change_the_counts():
    first = {r["name"]: r for r in json.loads(output("--format", "json", "--classes", "10"))}
    grey = {
        r["name"]: r for r in json.loads(output("--format", "json", "--classes", "10", "--channels", "1"))
    }
    for name, row in first.items():
        built = models.build(name, 10, 32, 1) if name == "resnet20" else None
        if built is not None:
            assert grey[name]["parameters"] == sum(p.numel() for p in built.parameters())
        assert grey[name]["parameters"] < row["parameters"]
        assert grey[name]["multiply_adds"] < row["multiply_adds"]


def test_a_network_that_takes_no_such_size_shows_its_sizes():
    rows = {row["name"]: row for row in json.loads(output("--format", "json", "--img-size", "64"))}
    nothing = dict.fromkeys(("parameters", "multiply_adds", "features", "shapes"))
    assert rows["ShuffleV1"] == {"name": "ShuffleV1", **nothing, "sizes": "32"}
    assert rows["vgg13"]["shapes"][-2] == [512, 4, 4]
    small = {
        row["name"]: row
        for row in json.loads(output("--format", "json", "--img-size", "8", "--channels", "1"))
    }
    assert small["MobileNetV2"]["parameters"] is None
    assert small["resnet8"]["shapes"][-2] == [64, 2, 2]


def test_table_and_csv_are_short():
    text = output()
    line = next(line for line in text.splitlines() if line.startswith("wrn_40_2"))
    assert line.split() == [
        *("wrn_40_2", "2,255,156", "327.61", "M", "5"),
        *("16@32", "32@32", "64@16", "128@8", "128", "8", "or", "more"),
    ]
    assert max(len(line) for line in text.splitlines()) <= 120
    rows = list(csv.DictReader(io.StringIO(output("--format", "csv"))))
    assert rows[0]["shapes"] == "16@32 16@32 32@16 64@8 64"
    assert rows[0]["multiply_adds"] == "12507392"
    for fmt in ("md", "latex"):
        assert "resnet8x4" in output("--format", fmt).replace(r"\_", "_")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--img-size", "4"], "^resnet8 needs images of at least 8x8 pixels, not 4x4$"),
        (["--classes", "1"], "at least 2 classes"),
        (["--channels", "0"], "--channels must be 1 or more, got 0"),
        (["--img-size", "100000"], "--img-size must be 1,024 or less, got 100,000"),
        (["--classes", "999999999999"], "--classes must be 100,000 or less"),
        (["--channels", "99999"], "--channels must be 1,024 or less"),
        (["--format", "xml"], "output format named 'xml'"),
    ],
)
def test_refusals(arguments, said):
    with pytest.raises(UsageError, match=said):
        output(*arguments)


def test_it_needs_neither_the_compiler_nor_torchvision():
    code = (
        "import sys; sys.argv = ['kdstats', 'models']\n"
        "from kdstats.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "slow = [m for m in ('torch._dynamo', 'torchvision', 'sympy', 'scipy', 'pandas') if m in sys.modules]\n"
        "assert not slow, slow\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "resnet20" in done.stdout
