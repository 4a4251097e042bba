"""The shipped studies, their schema for editors, templates, YAML, exclusions and executors in the file."""

import json
from collections import Counter
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from kdstats import data, models, schemes
from kdstats.errors import MissingError, UsageError
from kdstats.teacher.network import Network
from runners.study import schema
from runners.study.grid import make_runs, make_specs, recipe_of
from runners.study.init import init, templates
from runners.study_file import read_study
from runners.study_file.sections import SELF, ExcludeSection
from runners.training.student_loss import StudentLoss

SHIPPED = sorted((Path(__file__).parents[2] / "runners" / "studies").glob("*.toml"))
GOOD = '[study]\nname = "x"\n[grid]\npairs = ["resnet8/lenet8"]\n'


def _file(tmp_path, text, name="s.toml"):
    path = tmp_path / name
    path.write_text(text)
    return path


def _teachers(study):
    names = {pair.partition("/")[0] for pair in study.over_arms("pairs")} - {SELF}
    return {name: Network(None, "t", name, "0" * 64, "t.safetensors", False, "") for name in names}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_a_shipped_study_can_be_planned(path):
    """As far as a plan goes without the data: networks, schemes and recipes exist, every run has a folder of its own."""
    study = read_study(path)
    assert data.card(study.study.dataset).name == study.study.dataset
    specs = make_specs(study, data.load("digits", "test"), _teachers(study))
    assert len({spec.paths(Path("x")).root for spec in specs}) == len(specs)
    grids = [arm.grid for arm in study.arms.values()]
    assert len(specs) == sum(len(g.pairs) * len(g.schemes) * len(g.seeds) for g in grids)
    for spec in specs:
        assert schemes.get(spec.scheme, draws=spec.draws).least <= spec.recipe.batch_size
        assert models.canonical(spec.student) == spec.student
        StudentLoss(spec, 100)  # weights, objective and targets fit each other
        assert (spec.teaching is None) == bool(spec.teacher_sha256)
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
    arms = read_study(next(p for p in SHIPPED if p.stem == "prolonged")).arms
    short, long = (arms[name].train.resolve() for name in ("240 epochs", "960 epochs"))
    assert long.milestones == tuple(4 * epoch for epoch in short.milestones) == (600, 720, 840)
    assert long.epochs == 4 * short.epochs == 960


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
        ('reason = "r"\nvariant = "warm"', "names variant 'warm'"),
    ):
        with pytest.raises(UsageError, match=said):
            with_(bad)


VARIANTS = (
    GOOD
    + """seeds = [0, 1]
schemes = ["identity", "cutmix"]
[[variant]]
name = "cold"
kd = {temperature = 1}
[[variant]]
name = "warm"
[[variant]]
name = "own"
teaching = {kind = "dual"}
grid = {pairs = ["self/lenet8"], schemes = ["cutmix"], seeds = [1, 2]}
[[variant]]
name = "long"
train = {epochs = 60}
"""
)


def test_variants_are_runs_of_their_own(tmp_path):
    study = read_study(_file(tmp_path, VARIANTS))
    images = data.load("digits", "test")
    runs = make_runs(study, images, _teachers(study))
    assert Counter(name for name, _ in runs) == {"cold": 4, "warm": 4, "own": 2, "long": 4}
    by = {(name, s.scheme, s.seed): s for name, s in runs}
    assert {by[name, "cutmix", 1].temperature for name in ("cold", "warm")} == {1.0, 4.0}
    assert by["long", "cutmix", 0].recipe.epochs == 60
    own = by["own", "cutmix", 2]
    assert (own.teacher, own.teacher_weights, own.teacher_sha256) == ("self", "", "")
    assert own.teaching.teachers == 2
    assert "runs/self__lenet8/cutmix/seed=2" in own.paths(Path("x")).root.as_posix()
    assert [s.seed for _, s in runs] == sorted(s.seed for _, s in runs), "seeds outermost"
    # What a variant leaves alone is the very run that a study without variants makes.
    plain = read_study(_file(tmp_path, VARIANTS.partition("[[variant]]")[0]))
    assert by["warm", "cutmix", 0] in make_specs(plain, images, _teachers(plain))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            '[[variant]]\nname = "a"\nkd = {temprature = 1}',
            "variant 'a': unknown key kd.temprature.*temperature",
        ),
        ('[[variant]]\nname = "a"\nkd = {temperature = 0}', "variant 'a': kd.temperature"),
        ('[[variant]]\nname = "a"\nlog = {every = 2}', r"unknown key variant\.0\.log"),
        ('[[variant]]\nname = "a"\n[[variant]]\nname = "a"', "variant 'a' is named twice"),
        ('[[variant]]\nname = "a/b"', "variant.0.name"),
        ('[[variant]]\nname = "a"\ngrid = {draws = "sample"}', "variant 'a': draws"),
        (
            '[[variant]]\nname = "a"\ntrain = {recipe = "cifar-short"}',
            "variant 'a': batches of 128 images beside 64",
        ),
        ('[[variant]]\nname = "a"\ngrid = {schemes = ["cutmx"]}', "variant 'a'.*cutmix"),
        (
            '[[variant]]\nname = "a"\nteaching = {kind = "ema"}',
            "write the pair self/lenet8, not resnet8/lenet8",
        ),
        (
            '[[variant]]\nname = "a"\ngrid = {pairs = ["self/lenet8"]}',
            "pair 'self/lenet8' has no fixed teacher",
        ),
        ('[teaching]\nkind = "ema"', "write the pair self/lenet8"),
        ('[teacher.self]\nweights = "w"', "belongs to no pair"),
    ],
)
def test_variants_and_teachings_that_make_no_sense_are_named(tmp_path, text, said):
    with pytest.raises(UsageError, match=f"(?s){said}"):
        read_study(_file(tmp_path, f"{GOOD}{text}\n"))


def test_two_variants_that_are_one_run_are_refused(tmp_path):
    text = '[[variant]]\nname = "a"\n[[variant]]\nname = "b"\nkd = {temperature = 4.0}\n'
    study = read_study(_file(tmp_path, GOOD + text))
    with pytest.raises(UsageError, match="variants 'a' and 'b' both make the run"):
        make_runs(study, data.load("digits", "test"), _teachers(study))


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"kd": {"objective": "at"}}, "would not be learned from"),
        (
            {"kd": {"originals": "replaced"}, "train": {"recipe": "digits", "passes": "joint"}},
            "leave passes at 'two'",
        ),
        ({"log": {"every": 99}}, "leaves no records"),
        (
            {"kd": {"objective": "region_consistency", "originals": "replaced", "gamma": 1.0, "alpha": 0.0}},
            "needs recursive_mix",
        ),
        (
            {
                "train": {"recipe": "digits", "fold_teacher": True},
                "kd": {"objective": "fitnet", "alpha_views": 0.9},
            },
            "folding loses them",
        ),
        (
            {"variant": [{"name": "bad", "kd": {"objective": "at"}}, {"name": "good"}]},
            r"\[bad\].*not be learned",
        ),
    ],
)
def test_what_every_run_would_refuse_is_refused_before_a_teacher_is_trained(sections, said):
    from kdstats import data
    from runners.study.grid import check_runs
    from runners.study_file import StudyFile

    study = StudyFile.model_validate(
        {"study": {"name": "s"}, "grid": {"pairs": ["resnet8/resnet8"], "schemes": ["flip"]}} | sections
    )
    with pytest.raises(UsageError, match=said):
        check_runs(study, data.load("digits", "train"))


def test_seeds_below_zero_are_refused(tmp_path):
    path = tmp_path / "s.toml"
    path.write_text('[study]\nname = "s"\n[grid]\npairs = ["resnet8/lenet8"]\nseeds = [0, -1]\n')
    with pytest.raises(UsageError, match=r"grid.seeds.1"):
        read_study(path)
