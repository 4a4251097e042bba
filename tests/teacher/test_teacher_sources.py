"""Teachers from elsewhere: libraries, the hub, a user's factory; loaded strictly, asked in their own normalisation."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from kdstats import data, models
from kdstats.data import ImageSet
from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.offline import VARIABLE
from kdstats.teacher import architectures, normalisation
from kdstats.teacher.accuracy import measure, remembered
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network, buffers_sha256, state_sha256

CPU = torch.device("cpu")


def colour(classes: int = 10, size: int = 32, n: int = 12) -> ImageSet:
    g = torch.Generator().manual_seed(0)
    return ImageSet(
        name="colours",
        split="train",
        images=torch.randint(0, 256, (n, 3, size, size), generator=g, dtype=torch.uint8),
        labels=torch.arange(n) % classes,
        sample_id=torch.arange(n),
        class_names=tuple(map(str, range(classes))),
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.25, 0.3),
        base="none",
        digest="c" * 64,
    )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a user's module in it, and caches of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KDSTATS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.delenv(VARIABLE, raising=False)
    return tmp_path


def module(folder: Path, name: str, body: str) -> None:
    (folder / f"{name}.py").write_text("import torch\nfrom torch import nn\n" + body)


def test_a_users_factory(here):
    module(
        here,
        "mynets_a",
        "def make(num_classes, in_channels):\n"
        "    torch.manual_seed(0)\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(in_channels * 1024, num_classes))\n"
        "def any_size(**known):\n"
        "    return make(known['num_classes'], known['in_channels'])\n",
    )
    images = colour()
    found = load_network("mynets_a:make", None, images, CPU)
    assert (found.arch, found.source, found.name) == ("mynets_a:make",) * 3
    assert found.sha256 == state_sha256(found.model)
    assert found.logits(images.normalise(images.images)).shape == (12, 10)
    assert load_network("mynets_a:any_size", None, images, CPU).sha256 == found.sha256
    # The same factory as the architecture of a weights file.
    models.save_weights(found.model, here / "w.safetensors")
    again = load_network(here / "w.safetensors", "mynets_a:make", images, CPU)
    assert torch.equal(
        again.logits(images.normalise(images.images)), found.logits(images.normalise(images.images))
    )


@pytest.mark.parametrize(
    ("body", "spec", "error", "said"),
    [
        ("def make(): return 3", "make", UsageError, "returned int, not a torch.nn.Module"),
        ("def make(): raise KeyError('x')", "make", UsageError, r"make\(\) raised KeyError: 'x'"),
        ("def make(): return nn.Linear(1, 1)", "mak", UsageError, "'make'"),
        ("make = 3", "make", UsageError, "function in"),
        ("raise RuntimeError('at import')", "make", UsageError, "RuntimeError: at import"),
        ("def make(depth): return nn.Identity()", "make", UsageError, "raised TypeError"),
        ("def make(): return nn.Identity()", "make", MissingError, r"gives \[2, 3, 32, 32\] for 2 images"),
        ("def make(): return nn.Linear(5, 5)", "make", MissingError, "fails on images of colours, 3x32x32"),
        (
            "def make(): return nn.Sequential(nn.Flatten(), nn.Linear(3072, 7))",
            "make",
            MissingError,
            r"gives \[2, 7\] for 2 images, expected \[2, 10\]",
        ),
    ],
)
def test_factories_that_do_not_work_say_why(here, body, spec, error, said, request):
    name = f"mynets_{abs(hash(request.node.name)) % 10**8}"
    module(here, name, body)
    with pytest.raises(error, match=said):
        load_network(f"{name}:{spec}", None, colour(), CPU)


def test_a_missing_module_and_an_arch_where_there_is_one(here):
    with pytest.raises(UsageError, match="cannot import nomodule_x .*ModuleNotFoundError"):
        load_network("nomodule_x:make", None, colour(), CPU)
    with pytest.raises(UsageError, match="names its own architecture; --student-arch belongs"):
        load_network("torchvision:resnet18", "resnet20", colour(), CPU, "student")


def test_buffers_that_change_while_the_teacher_is_asked_are_found(here):
    module(
        here,
        "mynets_bn",
        "class Odd(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.bn, self.fc = nn.BatchNorm2d(3), nn.Linear(3, 10)\n"
        "    def forward(self, x):\n"
        "        self.bn.train()\n"
        "        return self.fc(self.bn(x).mean((2, 3)))\n"
        "def make(): return Odd()\n",
    )
    images = colour()
    found = load_network("mynets_bn:make", None, images, CPU)
    found.logits(images.normalise(images.images))
    with pytest.raises(CheckError, match="its buffers changed while it was asked"):
        found.check_unchanged()
    good = load_network(None, None, data.load("digits"), CPU)
    good.logits(torch.randn(3, 1, 8, 8))
    good.check_unchanged()


def test_torchvision_as_architecture_of_a_file(here):
    images = colour()
    network = architectures.build("torchvision:resnet18", images)
    models.save_weights(network, here / "r.safetensors")
    found = load_network(here / "r.safetensors", "torchvision:resnet18", images, CPU)
    x = images.normalise(images.images)
    with torch.no_grad():
        expected = network.eval()(x)
    assert torch.allclose(found.logits(x), expected, atol=1e-5)
    with pytest.raises(UsageError, match="torchvision model.*resnet18"):
        load_network(here / "r.safetensors", "torchvision:resnet19", images, CPU)
    with pytest.raises(UsageError, match="takes colour images"):
        architectures.build("torchvision:resnet18", data.load("digits"))


def in_torch_cache(here: Path, name: str) -> Path:
    """Random weights where torchvision would have put those it downloads."""
    import torchvision

    torch.manual_seed(1)
    network = torchvision.models.get_model(name, weights=None)
    url = torchvision.models.get_model_weights(name).DEFAULT.url
    file = here / "torch" / "hub" / "checkpoints" / url.rpartition("/")[2]
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    return file


def test_torchvisions_trained_networks_see_their_own_normalisation(here):
    file = in_torch_cache(here, "resnet18")
    images = colour(1000, 64)
    found = load_network("torchvision:resnet18", None, images, CPU)
    assert found.arch == "torchvision:resnet18"
    import torchvision

    plain = torchvision.models.resnet18()
    plain.load_state_dict(torch.load(file, weights_only=True))
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    with torch.no_grad():
        expected = plain.eval()((images.images / 255 - mean) / std)
    assert torch.allclose(found.logits(images.normalise(images.images)), expected, atol=1e-4)
    same = replace(images, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    assert not isinstance(
        load_network("torchvision:resnet18", None, same, CPU).model, normalisation.Renormalised
    )


def test_a_poisoned_cache_is_not_run(here):
    file = in_torch_cache(here, "resnet18")
    marker = here / "ran"

    class Evil:
        def __reduce__(self):
            return (Path.touch, (marker,))

    file.write_bytes(pickle.dumps({"conv1.weight": Evil()}))
    with pytest.raises(MissingError, match="refused|not a PyTorch weights file"):
        load_network("torchvision:resnet18", None, colour(1000, 64), CPU)
    assert not marker.exists()
    pickle.loads(file.read_bytes())  # the file would have done it
    assert marker.exists()


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("torchvision:resnet18", r"torchvision:resnet18 would have to be downloaded.*resnet18-.*\.pth"),
        ("timm:resnet18.a1_in1k", r"timm/resnet18.a1_in1k/model.safetensors from the hub would have to be"),
        ("hf-hub:org/name@v1", r"org/name@v1/model.safetensors from the hub would have to be downloaded"),
    ],
)
def test_without_downloads_one_sentence_says_what_is_missing(here, monkeypatch, spec, said):
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setenv("HF_HOME", str(here / "hf"))
    with pytest.raises(MissingError, match=said) as caught:
        load_network(spec, None, colour(1000, 64), CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("spec", "classes", "error", "said"),
    [
        ("torchvision:resnet18", 10, MissingError, "knows 1000 classes, colours has 10"),
        ("torchvision:resnet18@NOPE", 1000, UsageError, "weights of torchvision:resnet18.*IMAGENET1K_V1"),
        ("torchvision:resnet181", 1000, UsageError, "torchvision model.*resnet18"),
        ("timm:resnet18.a1_in1k", 10, MissingError, "knows 1000 classes, colours has 10"),
        ("timm:resnet181", 10, UsageError, "timm model.*resnet18"),
        ("hf-hub:name", 10, UsageError, "hf-hub:org/name"),
    ],
)
def test_what_does_not_fit_is_refused_before_any_download(here, spec, classes, error, said):
    with pytest.raises(error, match=said):
        load_network(spec, None, colour(classes, 64), CPU)


def hub_cache(here: Path, monkeypatch: pytest.MonkeyPatch, repo: str, files: dict[str, bytes]) -> None:
    """A repository in the hub's cache, laid down as its client does."""
    root = here / "hf" / "hub" / f"models--{repo.replace('/', '--')}"
    commit = "a" * 40
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text(commit)
    for name, content in files.items():
        target = root / "snapshots" / commit / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(here / "hf" / "hub"))


def weights_of(network: nn.Module, file: Path) -> bytes:
    save_file({k: v.contiguous() for k, v in network.state_dict().items()}, file)
    return file.read_bytes()


def test_networks_of_the_hub(here, monkeypatch):
    images = colour(10, 32)
    zoo = models.build("resnet8", 10)
    config = {"arch": "resnet8", "mean": [0.1, 0.2, 0.3], "std": [0.5, 0.5, 0.5]}
    content = {"model.safetensors": weights_of(zoo, here / "z"), "config.json": json.dumps(config).encode()}
    hub_cache(here, monkeypatch, "org/student", content)
    monkeypatch.setenv(VARIABLE, "1")  # everything is in the cache
    found = load_network("hf-hub:org/student", None, images, CPU)
    assert found.arch == "resnet8"
    mean, std = (torch.tensor(config[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        expected = zoo.eval()((images.images / 255 - mean) / std)
    assert torch.allclose(found.logits(images.normalise(images.images)), expected, atol=1e-4)


def test_timm_networks(here, monkeypatch):
    timm = pytest.importorskip("timm")
    images = colour(10, 32)
    network = timm.create_model("resnet10t", num_classes=10)
    models.save_weights(network, here / "t.safetensors")
    found = load_network(here / "t.safetensors", "timm:resnet10t", images, CPU)
    x = images.normalise(images.images)
    with torch.no_grad():
        assert torch.allclose(found.logits(x), network.eval()(x), atol=1e-4)
    config = {"architecture": "resnet10t", "num_classes": 10}
    content = {
        "model.safetensors": weights_of(network, here / "z"),
        "config.json": json.dumps(config).encode(),
    }
    hub_cache(here, monkeypatch, "org/timm-like", content)
    again = load_network("hf-hub:org/timm-like", None, images, CPU)
    assert again.arch == "timm:resnet10t"
    assert torch.allclose(again.logits(x), found.logits(x), atol=1e-5)


def test_accuracy_is_measured_once_per_weights_and_data(here, monkeypatch):
    test = data.load("digits", "test")
    network = load_network(None, None, data.load("digits"), CPU)
    first = remembered(network, test)
    assert first == measure(network.model, test)
    calls = []
    monkeypatch.setattr(
        "kdstats.teacher.accuracy.measure", lambda *a, **k: calls.append(1) or measure(*a, **k)
    )
    assert remembered(network, test) == first
    assert calls == []
    assert remembered(replace(network, sha256="0" * 64), test) == first  # other weights: measured
    assert remembered(network, test.head(100)).n == 100  # other data: measured
    assert len(calls) == 2
    for entry in (here / "home" / "accuracy").iterdir():
        entry.write_text("{damaged")
    assert remembered(network, test) == first
    assert len(calls) == 3
    factory = Network(network.model, "f", "pkg.mod:make", "1" * 64, "pkg.mod:make")
    remembered(factory, test)
    remembered(factory, test)
    assert len(calls) == 5  # code can change while weights do not


def test_hashes_of_states_tell_networks_apart():
    torch.manual_seed(0)
    a, b = nn.Linear(3, 2), nn.Linear(3, 2)
    assert state_sha256(a) != state_sha256(b)
    b.load_state_dict(a.state_dict())
    assert state_sha256(a) == state_sha256(b)
    assert buffers_sha256(a) == buffers_sha256(nn.ReLU())
    assert buffers_sha256(nn.BatchNorm2d(3)) != buffers_sha256(a)


def test_names_are_canonical_and_foreign_weights_are_named_with_their_file(here):
    from safetensors.torch import save_file

    from kdstats import models

    images = colour()
    weights = here / "w.safetensors"
    models.save_weights(models.build("resnet8", 10, 32), weights)
    assert load_network(weights, "RESNET8", images, CPU).arch == "resnet8"
    foreign = here / "other.safetensors"
    save_file({"a.weight": torch.zeros(3, 3)}, foreign)
    with pytest.raises(MissingError, match=r"other.safetensors: the weights belong to no network"):
        load_network(foreign, None, images, CPU)
