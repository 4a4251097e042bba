"""The README's table of questions is the list of analyses."""

from pathlib import Path

import analyses

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_every_analysis_has_its_line_and_no_line_is_without_one():
    table = README.partition("| asked by | question |")[2].partition("\n\n")[0].splitlines()[2:]
    said = [tuple(cell.strip() for cell in line.split("|")[2:4]) for line in table]
    expected = {
        (
            " ".join(analyses.get(name).QUESTION.split()),
            "always" if name in analyses.ANALYSES else f"`{name}`",
        )
        for name in analyses.ANALYSES | analyses.ON_REQUEST
    }
    assert set(said) == expected
    assert len(said) == len(expected)
