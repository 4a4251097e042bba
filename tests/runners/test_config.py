"""The study file's door: every mistake is named with its place."""

from pathlib import Path

import pytest

from kdstats import schemes
from kdstats.errors import MissingError, UsageError
from runners.study_file import read_study

SHIPPED = Path(__file__).parents[2] / "runners" / "studies"
GOOD = '[study]\nname = "x"\n[grid]\npairs = ["resnet8/lenet8"]\n'


def _file(tmp_path, text):
    path = tmp_path / "s.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.toml")), ids=lambda p: p.stem)
def test_shipped_studies_are_valid(path):
    assert read_study(path).study.name


def test_defaults_are_the_published_weights(tmp_path):
    study = read_study(_file(tmp_path, GOOD))
    fields = study.kd.fields()
    assert (fields["temperature"], fields["gamma"], fields["alpha"], fields["beta"]) == (4.0, 0.1, 0.9, 0.0)
    assert len(study.grid.schemes) == 9
    assert study.grid.seeds == (0, 1, 2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (GOOD + "[kd]\ntemprature = 2\n", "kd.temprature.*temperature"),
        (GOOD + "[trian]\nrecipe = 'digits'\n", "trian.*train"),
        (GOOD + "[teacher.resnet8]\nweigths = 'a'\n", "weigths.*weights"),
        (GOOD + "[teacher.resnet20]\nweights = 'a'\n", "resnet20.*belongs to no pair"),
        (GOOD.replace("lenet8", "lenet9"), "lenet9.*lenet8"),
        (GOOD.replace("resnet8/lenet8", "resnet8"), "teacher/student"),
        (GOOD + "schemes = ['cutmx']\n", "cutmx.*cutmix"),
        (GOOD + "schemes = ['cutmix', 'CutMix']\n", "named twice"),
        (GOOD + "seeds = [1, 1]\n", "named twice"),
        (GOOD + "seeds = []\n", "grid.seeds"),
        (GOOD + "[kd]\ntemperature = 0\n", "kd.temperature"),
        (GOOD + "[kd]\ntemperature = 'warm'\n", "kd.temperature"),
        (GOOD + "[train]\nrecipe = 'digit'\n", "digit.*digits"),
        ("schema = 2\n" + GOOD, "schema"),
    ],
)
def test_mistakes_are_named(tmp_path, text, said):
    with pytest.raises(UsageError, match=f"(?s){said}"):
        read_study(_file(tmp_path, text))


def test_overrides_use_toml_spelling(tmp_path):
    study = read_study(_file(tmp_path, GOOD), ["kd.temperature=2", "study.name=quick", "grid.seeds=[5]"])
    assert (study.kd.temperature, study.study.name, study.grid.seeds) == (2.0, "quick", (5,))
    with pytest.raises(UsageError, match="section.key=value"):
        read_study(_file(tmp_path, GOOD), ["kd.temperature"])
    with pytest.raises(UsageError, match="temprature"):
        read_study(_file(tmp_path, GOOD), ["kd.temprature=2"])


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(MissingError, match=r"init"):
        read_study(tmp_path / "none.toml")
    with pytest.raises(MissingError, match="not TOML"):
        read_study(_file(tmp_path, "[study\n"))


def test_schemes_may_be_groups_presets_and_expressions(tmp_path):
    path = tmp_path / "s.toml"
    start = 'schema = 1\n[study]\nname = "x"\n[grid]\npairs = ["resnet8/lenet8"]\n'
    path.write_text(
        start + 'schemes = ["wang2022", "pick(mixup, runs=3)", "RM(alpha=0.3)", "crop-flip+AA"]\n'
    )
    study = read_study(path)
    assert study.grid.schemes[:9] == schemes.PUBLISHED_NINE
    assert study.grid.schemes[9:] == (
        "pick(mixup,runs=3)",
        "recursive_mix(alpha=0.3)",
        "crop_flip+autoaugment",
    )
    path.write_text(start + 'schemes = ["cutmix(alpha=1)", "cutmix"]\n')
    with pytest.raises(UsageError, match="'cutmix' is named twice"):
        read_study(path)
    path.write_text(start + 'schemes = ["full_mixup@mixkd"]\n')
    with pytest.raises(UsageError, match="add draws=sample"):
        read_study(path)
    path.write_text(start + 'schemes = ["full_mixup@mixkd"]\ndraws = "sample"\n[kd]\ntargets = "labels"\n')
    assert read_study(path).kd.targets == "labels"
    path.write_text(start + '[kd]\ntargets = "label"\n')
    with pytest.raises(UsageError, match="kd.targets"):
        read_study(path)


@pytest.mark.parametrize(
    ("name", "text"), [("deep.toml", "a = " + "[" * 100_000), ("deep.yaml", "[" * 20_000)]
)
def test_nesting_without_end_is_told_like_any_damage(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    with pytest.raises(MissingError, match=r"deep\.(toml|yaml) is not (TOML|YAML): it nests too deep"):
        read_study(tmp_path / name)
