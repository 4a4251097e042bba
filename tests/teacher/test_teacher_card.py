"""Cards, names and constants of teachers: what a file may say, what is checked before data, what is warned of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdstats import data, models
from kdstats.data import ImageSet, Selection
from kdstats.errors import MissingError, UsageError
from kdstats.teacher import accuracy, architectures
from kdstats.teacher.accuracy import Accuracy, chance, remembered
from kdstats.teacher.card import TeacherCard
from kdstats.teacher.evaluate import evaluate_da
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network
from kdstats.teacher.normalisation import Constants, parse
from kdstats.teacher.sources import check_source, defaults_of, training_command
from tests.teacher.test_teacher_sources import colour, hub_cache, module, weights_of

CPU = torch.device("cpu")
DIGITS = Selection("digits")


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSTATS_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.fixture
def weights(here: Path) -> Path:
    torch.manual_seed(0)
    file = here / "teacher.safetensors"
    models.save_weights(models.build("resnet8", 10, 32), file)
    return file


def card(weights: Path, **fields: object) -> None:
    weights.with_suffix(".json").write_text(json.dumps(fields))


HELPER = "from pathlib import Path\nPath('it ran').touch()\ndef net(**known): return nn.Identity()\n"


@pytest.mark.parametrize("arch", ["helper_c:net", "Torchvision:resnet18", "a:b:c", "hf-hub:org/name"])
def test_a_card_cannot_name_code(here, weights, arch):
    module(here, "helper_c", HELPER)
    card(weights, arch=arch)
    with pytest.raises(
        MissingError, match=f"teacher.json names code, {arch}; pass --arch {arch} if you trust it"
    ):
        load_network(weights, None, colour(), CPU)
    with pytest.raises(MissingError, match=f"pass --student-arch {arch}"):
        check_source(weights, None, "student")
    assert not (here / "it ran").exists()


def test_the_user_may_name_the_same_code(here, weights):
    """It does run then, so the refusal above is what held it back."""
    module(here, "helper_u", HELPER)
    card(weights, arch="helper_u:net")
    with pytest.raises(MissingError, match="names code"):
        load_network(weights, None, colour(), CPU)
    with pytest.raises(MissingError, match="does not fit the network"):
        load_network(weights, "helper_u:net", colour(), CPU)
    assert (here / "it ran").exists()


def test_the_hubs_config_cannot_name_code(here, monkeypatch):
    module(here, "helper_h", HELPER)
    content = {
        "model.safetensors": weights_of(models.build("resnet8", 10), here / "z"),
        "config.json": json.dumps({"arch": "helper_h:net"}).encode(),
    }
    hub_cache(here, monkeypatch, "org/evil", content)
    with pytest.raises(MissingError, match="config.json of hf-hub:org/evil names code, helper_h:net"):
        load_network("hf-hub:org/evil", None, colour(), CPU)
    assert not (here / "it ran").exists()


def test_a_card_with_an_unknown_name_or_endless_nesting_is_the_files_fault(weights):
    card(weights, arch="resnet9")
    with pytest.raises(MissingError, match=r"teacher.json: no model named 'resnet9'.*resnet8"):
        load_network(weights, None, colour(), CPU)
    weights.with_suffix(".json").write_text("[" * 200_000)
    with pytest.raises(MissingError, match=r"teacher.json is not readable JSON"):
        load_network(weights, None, colour(), CPU)


def with_names(images: ImageSet, *names: str) -> ImageSet:
    return replace(images, class_names=names, labels=images.labels % len(names))


def test_other_classes_than_the_cards_are_refused(here):
    file = here / "t.safetensors"
    models.save_weights(models.build("resnet8", 3, 32), file)
    card(file, arch="resnet8", dataset="colours", class_names=["c0", "c1", "c3"])
    right = with_names(colour(), "c0", "c1", "c3")
    assert load_network(file, None, right, CPU).notes == ()
    with pytest.raises(MissingError, match="c3 missing here, c2 not known to it; --classes c0,c1,c3"):
        load_network(file, None, with_names(colour(), "c0", "c1", "c2"), CPU)
    with pytest.raises(MissingError, match="the same in another order"):
        load_network(file, "resnet8", with_names(colour(), "c1", "c0", "c3"), CPU)


def test_a_full_sets_classes_may_be_spelled_in_another_way(weights):
    ten = tuple("abcdefghij")
    images = replace(with_names(colour(), *ten), name="cifar10")
    card(weights, arch="resnet8", dataset="cifar10", class_names=[*ten[:9], "jay"])
    (note,) = load_network(weights, None, images, CPU).notes
    assert note.name == "teacher-class-names"
    assert "(jay, here j)" in note.text
    card(weights, arch="resnet8", dataset="cifar100", class_names=[*ten[:9], "jay"])
    with pytest.raises(MissingError, match="jay missing here"):
        load_network(weights, None, images, CPU)


def test_another_size_and_another_set_are_warned_of(weights):
    card(weights, arch="resnet8", dataset="cifar10", img_size=64)
    notes = {note.name: note.text for note in load_network(weights, None, colour(), CPU).notes}
    assert list(notes) == ["teacher-data-set", "teacher-image-size"]
    assert "images of 64x64 pixels; it is asked about 32x32 (--img-size 64)" in notes["teacher-image-size"]
    assert "trained on cifar10; it is asked about colours" in notes["teacher-data-set"]


def logits_by_hand(
    file: Path, images: ImageSet, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    network = models.build("resnet8", 10, 32)
    models.load_weights(network, file)
    mean_t, std_t = (torch.tensor(v).view(1, -1, 1, 1) for v in (mean, std))
    with torch.no_grad():
        return network.eval()((images.images / 255 - mean_t) / std_t)


@pytest.mark.parametrize(
    ("on_card", "option", "mean", "std"),
    [
        (True, None, (0.1, 0.2, 0.3), (0.5, 0.6, 0.7)),
        (True, "imagenet", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        (True, "data", (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
        (False, None, (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)),
        (False, "none", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        (False, "0.5/0.25", (0.5,) * 3, (0.25,) * 3),
        (False, "0.1,0.2,0.3/1,2,3", (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)),
    ],
)
def test_a_network_is_given_what_it_was_trained_with(weights, on_card, option, mean, std):
    if on_card:
        card(weights, arch="resnet8", mean=[0.1, 0.2, 0.3], std=[0.5, 0.6, 0.7])
    images = colour()
    found = load_network(weights, "resnet8", images, CPU, normalise=option)
    assert (found.mean, found.std) == (mean, std)
    x = images.normalise(images.images)
    assert torch.allclose(found.logits(x), logits_by_hand(weights, images, mean, std), atol=1e-4)


def test_a_factory_can_be_given_other_constants_and_features_pass_through(here, weights):
    module(
        here,
        "mynets_n",
        "from kdstats import models\n"
        "def make():\n"
        "    network = models.build('resnet8', 10, 32)\n"
        f"    models.load_weights(network, {str(weights)!r})\n"
        "    return network\n",
    )
    images = colour()
    found = load_network("mynets_n:make", None, images, CPU, normalise="cifar100")
    x = images.normalise(images.images)
    expected = logits_by_hand(weights, images, (0.5071, 0.4867, 0.4408), (0.2675, 0.2565, 0.2761))
    assert torch.allclose(found.logits(x), expected, atol=1e-4)
    logits, features = found.model(x, features=True)
    assert torch.allclose(logits, expected, atol=1e-4)
    assert len(features) == 5


@pytest.mark.parametrize(
    "text",
    ["imagnet", "imagefolder", "0.5", "0.5/0", "0.5/-1", "0.5,0.5/0.5", "a/b", "nan/1", "inf/1", "/", ""],
)
def test_senseless_normalisations_are_refused(text):
    with pytest.raises(UsageError, match="normalisation"):
        parse(text)


def test_constants_must_fit_the_channels_and_a_card_may_hold_nonsense(weights):
    with pytest.raises(UsageError, match="normalisation for 3 channels; the images of digits have 1"):
        load_network(None, None, data.load("digits"), CPU, normalise="imagenet")
    for mean, std in (([1, 2], [1]), ("ab", "cd"), ([True], [1.0]), ([float("nan")], [1.0]), (None, None)):
        assert Constants.read(mean, std) is None


def test_guessing_is_named():
    network = Network(nn.Identity(), "t", "resnet8", "0" * 64, "t")
    # Exact: P(X >= 59 | 500, 0.1) is above 5 %, P(X >= 62) below.
    lucky = chance(network, Accuracy(2.3, 59 / 500, 500), 10)
    assert lucky is not None
    assert lucky.name == "teacher-at-chance"
    assert "t is no better than guessing: 11.8 % test accuracy over 500 images, 10 % by chance" in lucky.text
    assert chance(network, Accuracy(2.3, 62 / 500, 500), 10) is None
    assert chance(network, Accuracy(2.3, 0.0, 500), 10) is not None
    assert chance(network, Accuracy(0.1, 1.0, 500), 10) is None


def test_an_untrained_teacher_is_measured_with_a_warning(here):
    torch.manual_seed(0)
    models.save_weights(models.build("lenet8", 10, 8, 1), here / "t.safetensors")
    found = evaluate_da("flip", teacher=here / "t.safetensors", tol=0.9, pools=5)
    assert [note.name for note in found.warnings] == ["teacher-at-chance"]
    document = found.to_dict()
    assert document["warnings"][0]["name"] == "teacher-at-chance"
    assert (document["teacher"]["mean"], document["teacher"]["std"]) == ([0.3053], [0.376])
    assert evaluate_da("flip", tol=0.9, pools=5).to_dict()["warnings"] == []


def test_a_bad_image_is_not_the_networks_fault(weights):
    class Torn(ImageSet):
        def batches(self, *args, **kwargs):
            raise MissingError("picture.png is cut short")

    images = colour()
    torn = Torn(**{name: getattr(images, name) for name in images.__dataclass_fields__})
    with pytest.raises(MissingError, match=r"^picture.png is cut short$"):
        load_network(weights, "resnet8", torn, CPU)


@pytest.mark.parametrize(
    ("body", "error", "said"),
    [
        ("import sys\nsys.exit()\n", UsageError, "cannot import .* SystemExit"),
        ("import sys\ndef make(): sys.exit()\n", UsageError, "raised SystemExit"),
        (
            "import sys\nclass N(nn.Module):\n    def forward(self, x): sys.exit(0)\ndef make(): return N()\n",
            MissingError,
            "fails on images of colours.*SystemExit",
        ),
    ],
)
def test_code_that_ends_the_program_does_not_end_ours(here, body, error, said, request):
    name = f"leaving_{abs(hash(request.node.name)) % 10**8}"
    module(here, name, body)
    with pytest.raises(error, match=said):
        load_network(f"{name}:make", None, colour(), CPU)


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("sys:exit", UsageError, "sys is a module of Python itself"),
        ("os:abort", UsageError, "os is a module of Python itself"),
        ("torchvison:resnet18", UsageError, r"did you mean torchvision:resnet18\?"),
        ("torchvison:resnet18@DEFAULT", UsageError, r"did you mean torchvision:resnet18@DEFAULT\?"),
        ("Timm:resnet18", UsageError, r"did you mean timm:resnet18\?"),
        ("hf_hub:org/name", UsageError, r"did you mean hf-hub:org/name\?"),
        ("mynets.py:build", UsageError, "write mynets:build"),
        ("nets/mynets.py:build", UsageError, "write nets.mynets:build"),
        ("hf-hub:a/..", UsageError, "hf-hub:org/name"),
        ("hf-hub:a/-b", UsageError, "hf-hub:org/name"),
        ("hf-hub:a/b@../../x", UsageError, "hf-hub:org/name"),
        ("torchvision:resnet181", UsageError, "torchvision model"),
        ("x" * 5000, MissingError, "File name too long"),
        ("a\0b", MissingError, "no teacher at"),
        (".", MissingError, "it is a folder"),
        ("missing.pth", MissingError, "--out missing.safetensors"),
    ],
)
def test_names_are_checked_before_any_data(here, source, error, said):
    with pytest.raises(error, match=said):
        check_source(source, None, "teacher", DIGITS)
    with pytest.raises(error, match=said):  # no such folder is ever looked at
        evaluate_da("flip", dataset="cifar100", data_path="/no/where", teacher=source)


def test_the_advice_is_a_command_that_works(here, capsys):
    from runners import teacher

    asked = Selection("digits", None, 16, "0,1,3", 20)
    command = training_command(asked, Path("my nets/t.pth"), "lenet8")
    assert command == (
        "python -m runners.teacher --dataset digits --img-size 16 --classes 0,1,3 --per-class 20 --arch lenet8 "
        "--out 'my nets/t.safetensors'"
    )
    with pytest.raises(MissingError) as caught:
        evaluate_da("flip", classes="0,1,3", per_class=30, teacher="t.pth", arch="resnet8")
    advised = str(caught.value).partition("`")[2].partition("`")[0].split()
    assert teacher.main([*advised[3:], "--epochs", "1"]) == 0
    assert defaults_of("t.safetensors", "digits") == (None, "0,1,3")
    assert defaults_of("torchvision:resnet18", "digits") == defaults_of(None, "digits") == (None, None)
    found = evaluate_da("flip", classes="0,1,3", teacher="t.safetensors", tol=0.9, pools=5)
    assert found.images.class_names == ("0", "1", "3")
    with pytest.raises(MissingError, match="3 missing here, 2 not known to it"):
        evaluate_da("flip", classes="3", teacher="t.safetensors", tol=0.9, pools=5)
    capsys.readouterr()


def test_a_cards_defaults_hold_for_its_own_data_set_alone(here):
    file = here / "t.safetensors"
    card(file, dataset="digits", class_names=["a", "b"], selection={"img_size": 16, "classes": "2"})
    assert TeacherCard.beside(file).defaults("digits") == (16, "2")
    assert TeacherCard.beside(file).defaults("cifar10") == (None, None)
    card(file, dataset="digits", class_names=["a", "b"], selection={"img_size": True, "classes": "@mine.txt"})
    assert TeacherCard.beside(file).defaults("digits") == (None, "a,b")
    card(file, dataset="digits", class_names=["a,b", "c"], selection={"img_size": -1, "classes": "@mine.txt"})
    assert TeacherCard.beside(file).defaults("digits") == (None, None)
    card(file, dataset="digits", class_names=[1], selection=[3])
    assert TeacherCard.beside(file).defaults("digits") == (None, None)


def test_accuracy_is_remembered_by_everything_it_depends_on(here, monkeypatch):
    test = data.load("digits", "test").head(50)
    network = load_network(None, None, data.load("digits"), CPU)
    calls = []
    monkeypatch.setattr(accuracy, "measure", lambda *a: calls.append(1) or Accuracy(1.0, 0.5, 50))
    remembered(network, test)
    remembered(network, test)
    assert len(calls) == 1
    for change in ({"digest": "e" * 64}, {"split": "train"}, {"mean": (0.1,)}):
        remembered(network, replace(test, **change))
        calls.pop()
    for field, value in (("sha256", "0" * 64), ("mean", (0.1,)), ("std", (0.2,)), ("arch", "lenet8")):
        remembered(replace(network, **{field: value}), test)
        calls.pop()
    monkeypatch.setattr(accuracy, "__version__", "99")
    remembered(network, test)
    calls.pop()
    monkeypatch.setattr(accuracy.loading, "_FORMAT", 99)
    remembered(network, test)
    calls.pop()

    remembered(network, replace(test, stamp="files of today"))
    assert len(calls) == 2


def test_images_of_the_wrong_number_of_channels_are_the_weights_matter(here):
    file = here / "g.safetensors"
    save_file(models.build("resnet8", 10, 8, 1).state_dict(), file)
    card(file, arch="resnet8", mean=[0.5], std=[0.5])
    with pytest.raises(MissingError, match="does not fit the network"):
        load_network(file, None, colour(), CPU)
    assert architectures.check("RESNET8") == "resnet8"
