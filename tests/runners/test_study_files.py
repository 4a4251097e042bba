"""The shipped studies, their schema for editors, templates, YAML, exclusions and executors in the file."""

import json
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from kdstats import data, models, schemes
from kdstats.errors import MissingError, UsageError
from kdstats.teacher.network import Network
from runners.config import ExcludeSection, read_study
from runners.plan import make_specs, recipe_of
from runners.study import schema
from runners.study.init import init, templates

SHIPPED = sorted((Path(__file__).parents[2] / "runners" / "studies").glob("*.toml"))
GOOD = '[study]\nname = "x"\n[grid]\npairs = ["resnet8/lenet8"]\n'


def _file(tmp_path, text, name="s.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_study_can_be_planned(path):
    """As far as a plan goes without the data: networks, schemes and recipes exist, every run has a folder of its own."""
    study = read_study(path)
    assert data.card(study.study.dataset).name == study.study.dataset
    fake = {
        pair.partition("/")[0]: Network(
            None, "t", pair.partition("/")[0], "0" * 64, "t.safetensors", False, ""
        )
        for pair in study.grid.pairs
    }
    specs = make_specs(study, data.load("digits", "test"), fake)
    assert len({spec.paths(Path("x")).root for spec in specs}) == len(specs)
    assert len(specs) == len(study.grid.pairs) * len(study.grid.schemes) * len(study.grid.seeds)
    for spec in specs:
        assert schemes.get(spec.scheme, draws=spec.draws).least <= spec.recipe.batch_size
        assert models.canonical(spec.student) == spec.student
    assert path.read_text().startswith("#:schema ./study.schema.json\n")


def test_the_published_grid_is_the_papers():
    for name in ("wang2022-cifar100", "wang2022-tinyimagenet"):
        study = read_study(next(p for p in SHIPPED if p.stem == name))
        assert len(study.grid.pairs) == 9
        assert set(study.grid.schemes) == set(schemes.PUBLISHED_NINE)
        assert len(study.grid.seeds) >= 3
        recipe = study.train.resolve()
        assert (recipe.epochs, recipe.batch_size, recipe.lr) == (240, 64, 0.05)
        assert recipe.milestones == (150, 180, 210)
        assert recipe_of(study, "ShuffleV2").lr == recipe_of(study, "MobileNetV2").lr == 0.01
        assert (study.kd.gamma, study.kd.alpha, study.kd.temperature) == (0.1, 0.9, 4.0)
        assert study.probe.protocol == "wang2022"


def test_prolonged_is_four_times_as_long():
    study = read_study(next(p for p in SHIPPED if p.stem == "prolonged"))
    assert study.train.resolve().milestones == (600, 720, 840)


def test_the_schema_for_editors_is_current_and_accepts_what_is_shipped():
    assert schema.SCHEMA.read_text() == schema.text(), "run python -m runners.study.schema"
    validator = Draft202012Validator(json.loads(schema.text()))
    import tomllib

    for path in SHIPPED:
        validator.validate(tomllib.loads(path.read_text()))
    wrong = {"study": {"name": "x"}, "grid": {"pairs": ["a/b"]}, "kd": {"temprature": 2}}
    assert [error.message for error in validator.iter_errors(wrong)]


def test_yaml_says_the_same_as_toml(tmp_path):
    import tomllib

    text = SHIPPED[-1].read_text()
    as_yaml = _file(tmp_path, yaml.safe_dump(tomllib.loads(text)), "s.yaml")
    assert read_study(as_yaml) == read_study(SHIPPED[-1])
    assert read_study(as_yaml, ["kd.temperature=2"]).kd.temperature == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("study: !!python/object/apply:os.system [echo]\n", "is not YAML"),
        ("a: b: c", "is not YAML"),
        ("- a\n", "is a mapping"),
        ("study: {name: x}\ngrid: {pairs: [resnet8/lenet8]}\nkd: {temprature: 1}\n", "temperature"),
    ],
)
def test_yaml_that_is_none_is_refused_and_runs_no_code(tmp_path, text, said):
    with pytest.raises((MissingError, UsageError), match=said):
        read_study(_file(tmp_path, text, "s.yml"))


def test_every_template_can_be_started_from(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert set(templates()) == {path.stem for path in SHIPPED}
    for name in templates():
        assert init(Path(name), None) == 0
        assert read_study(Path(f"{name}.toml")) == read_study(next(p for p in SHIPPED if p.stem == name))
    assert "Next: python -m runners.study plan" in capsys.readouterr().out
    assert init(Path("mine.toml"), None) == 0
    assert Path("mine.toml").read_text() == Path("quickstart.toml").read_text()
    assert init(Path("other.toml"), "prolonged") == 0
    with pytest.raises(UsageError, match="exists"):
        init(Path("mine.toml"), None)
    with pytest.raises(UsageError, match="'quickstart'"):
        init(Path("quickstrat"), None)
    with pytest.raises(UsageError, match="TOML"):
        init(Path("mine.json"), None)
    with pytest.raises(UsageError, match="no folder"):
        init(Path("none/mine.toml"), None)


def test_exclusions_are_checked_against_the_grid(tmp_path):
    def with_(rule):
        return read_study(_file(tmp_path, f"{GOOD}[[exclude]]\n{rule}\n"))

    study = with_('scheme = "CutMix"\nseed = 1\nreason = "power cut"')
    rule = study.exclude[0]
    assert rule.matches("resnet8/lenet8", "cutmix", 1)
    assert not rule.matches("resnet8/lenet8", "cutmix", 0)
    assert ExcludeSection(reason="r", pair="resnet8/lenet8").matches("resnet8/lenet8", "flip", 2)
    for bad, said in (
        ('reason = "r"', "at least one"),
        ('reason = ""\nseed = 1', "reason"),
        ('reason = "r"\nseed = 7', "exclusion 1 names seed 7"),
        ('reason = "r"\nscheme = "cutmx"', "cutmix"),
        ("seed = 1", "reason"),
    ):
        with pytest.raises(UsageError, match=said):
            with_(bad)
