"""What a wrong study file is answered with, word for word: the place of the mistake, and the nearest right key."""

import pytest

from kdstats.errors import UsageError
from runners.study_file import read_study

STUDY, GRID = '[study]\nname = "x"\n', '[grid]\npairs = ["resnet8/lenet8"]\n'
GOOD = STUDY + GRID
START = "`python -m runners.study init FILE.toml` writes a file to start from"
LIST = 'is a list, for example [0, 1, 2] or ["identity", "cutmix"], not'


def _said(tmp_path, text):
    """The answer without the name of the file in front."""
    path = tmp_path / "s.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        read_study(path)
    return str(caught.value).removeprefix(f"{path}: ")


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        (GRID, ["study"]),
        (STUDY, ["grid"]),
        ("", ["study", "grid"]),
        ("[study]\n" + GRID, ["study.name"]),
        (STUDY + "[grid]\n", ["grid.pairs"]),
        (GOOD + "[[variant]]\nkd = {temperature = 1}\n", ["variant.0.name"]),
        (
            GOOD + '[[exclude]]\nseed = 0\nreason = "r"\n[[exclude]]\nseed = 1\n[[exclude]]\nseed = 2\n',
            ["exclude.1.reason", "exclude.2.reason"],
        ),
    ],
)
def test_every_missing_key_is_named_with_its_section_and_a_way_to_begin(tmp_path, text, missing):
    assert _said(tmp_path, text) == "; ".join(f"{key} is missing; {START}" for key in missing)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sead = [1]\n" + GOOD, "unknown key sead; did you mean schema?"),
        (GOOD + "sead = [1]\n", "unknown key grid.sead; did you mean seeds?"),
        (GOOD + "[report]\nhtml = true\n", "unknown key report.html; known: build"),
        # The key of another section is unknown here; what is known is this section's.
        (GOOD + "temperature = 2\n", "unknown key grid.temperature; known: pairs, schemes, seeds, draws"),
        (
            GOOD + '[teacher.resnet8]\nweigths = "a"\n',
            "unknown key teacher.resnet8.weigths; did you mean weights?",
        ),
        (
            GOOD + "[teacher.resnet8]\ntemperature = 2\n",
            "unknown key teacher.resnet8.temperature; known: weights, recipe, epochs, seed",
        ),
        (
            GOOD + '[[exclude]]\nschem = "cutmix"\nreason = "r"\n',
            "unknown key exclude.0.schem; did you mean scheme?",
        ),
        (
            GOOD + '[[exclude]]\nseed = 1\nreason = "r"\n[[exclude]]\nsed = 1\nreason = "r"\n',
            "unknown key exclude.1.sed; did you mean seed?",
        ),
        (GOOD + '[[variant]]\nname = "a"\ntrian = {}\n', "unknown key variant.0.trian; did you mean train?"),
        (
            GOOD + '[[variant]]\nname = "a"\nlog = {every = 2}\n',
            "unknown key variant.0.log; known: name, kd, train, teaching, grid",
        ),
        (
            GOOD + '[[variant]]\nname = "a"\ngrid = {sheds = [1]}\n',
            "variant 'a': unknown key grid.sheds; did you mean seeds or schemes?",
        ),
        # An alias is the key, and the name in the code is not.
        ("schema_version = 1\n" + GOOD, "unknown key schema_version; did you mean schema?"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest_of_its_own_section(tmp_path, text, said):
    assert _said(tmp_path, text) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "seeds = 3\n", f"grid.seeds {LIST} 3"),
        (GOOD + 'schemes = "cutmix"\n', f"grid.schemes {LIST} 'cutmix'"),
        (STUDY + '[grid]\npairs = "resnet8/lenet8"\n', f"grid.pairs {LIST} 'resnet8/lenet8'"),
        (GOOD + '[teaching]\nkind = "dual"\nthen = "identity"\n', f"teaching.then {LIST} 'identity'"),
        (GOOD + '[[variant]]\nname = "a"\ngrid = {seeds = 3}\n', f"variant 'a': grid.seeds {LIST} 3"),
    ],
)
def test_one_value_where_a_list_belongs(tmp_path, text, said):
    assert _said(tmp_path, text) == said


@pytest.mark.parametrize(
    ("text", "section"),
    [
        (GOOD + '[exclude]\nseed = 1\nreason = "r"\n', "exclude"),
        (GOOD + '[variant]\nname = "a"\n', "variant"),
        ("variant = 3\n" + GOOD, "variant"),
    ],
)
def test_one_table_where_several_may_stand(tmp_path, text, section):
    said = f"{section} is a list of tables; in TOML each is headed [[{section}]], not [{section}]"
    assert _said(tmp_path, text) == said


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (GOOD + "seeds = [0, -1]\n", "grid.seeds.1"),
        (GOOD + 'seeds = [0, 1, "two"]\n', "grid.seeds.2"),
        (GOOD + 'schemes = ["cutmix", 3]\n', "grid.schemes.1"),
        (GOOD + '[[variant]]\nname = "a"\n[[variant]]\nname = "b"\nkd = 3\n', "variant.1.kd"),
        (GOOD + '[[exclude]]\nseed = "x"\nreason = "r"\n', "exclude.0.seed"),
    ],
)
def test_a_wrong_item_of_a_list_is_named_by_its_place(tmp_path, text, place):
    assert _said(tmp_path, text).startswith(f"{place}: Input should be ")


def test_all_mistakes_are_told_at_once(tmp_path):
    said = _said(tmp_path, GOOD + "[kd]\ntemprature = 2\n[train]\nepoks = 3\n[probe]\ntol = 2\n")
    assert said.split("; ") == [
        "unknown key train.epoks",
        "did you mean epochs?",
        "unknown key kd.temprature",
        "did you mean temperature or student_temperature?",
        "probe.tol: Input should be less than 1",
    ]
