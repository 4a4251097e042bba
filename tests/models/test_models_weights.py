from __future__ import annotations

import argparse
import pickle
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from kdstats import models
from kdstats.errors import MissingError
from kdstats.models import load_weights, read_state_dict, save_weights


def net(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return models.build("lenet8", 10, 8, 1)


def same(a: torch.nn.Module, state: dict[str, torch.Tensor]) -> bool:
    return all(torch.equal(v, state[k]) for k, v in a.state_dict().items())


def test_round_trip(tmp_path):
    made = net()
    save_weights(made, tmp_path / "sub" / "w.safetensors", {"scheme": "cutmix"})
    other = net(1)
    load_weights(other, tmp_path / "sub" / "w.safetensors")
    assert same(other, made.state_dict())
    assert [p.name for p in (tmp_path / "sub").iterdir()] == ["w.safetensors"]
    assert b"cutmix" in (tmp_path / "sub" / "w.safetensors").read_bytes()[:2000]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "shape", ["bare", "model", "state_dict", "net", "model_state_dict", "module.", "wrapped module."]
)
def test_shapes_of_old_checkpoints(tmp_path, shape, legacy):
    state = net().state_dict()
    content = {
        "bare": state,
        "module.": {f"module.{k}": v for k, v in state.items()},
        "wrapped module.": {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in state.items()}},
    }.get(shape, {"epoch": 240, "accuracy": 0.7, shape: state, "optimizer": {"lr": 0.1}})
    torch.save(content, tmp_path / "w.pth", _use_new_zipfile_serialization=not legacy)
    other = net(1)
    load_weights(other, tmp_path / "w.pth")
    assert same(other, state)


def test_counters_of_very_old_checkpoints_may_be_missing(tmp_path):
    state = {k: v for k, v in net().state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pth")
    other = net(1)
    load_weights(other, tmp_path / "w.pth")
    assert all(torch.equal(other.state_dict()[k], v) for k, v in state.items())


def test_misfits_name_keys_and_shapes(tmp_path):
    state = net().state_dict()

    def refused(change: dict[str, torch.Tensor | None]) -> str:
        content = {k: v for k, v in {**state, **change}.items() if v is not None}
        torch.save(content, tmp_path / "w.pth")
        target = net(1)
        before = {k: v.clone() for k, v in target.state_dict().items()}
        with pytest.raises(MissingError) as caught:
            load_weights(target, tmp_path / "w.pth")
        assert same(target, before), "half of the weights were loaded"
        assert "w.pth" in str(caught.value)
        return str(caught.value)

    text = refused({"fc.weight": torch.zeros(100, 64), "bn1.bias": None, "extra.weight": torch.zeros(1)})
    assert "fc.weight is [100, 64], expected [10, 64]" in text
    assert "missing bn1.bias" in text
    assert "unexpected extra.weight" in text
    assert "--arch" in text
    # Each alone is reason enough.
    assert "unexpected extra.weight" in refused({"extra.weight": torch.zeros(1)})
    assert "missing bn1.bias" in refused({"bn1.bias": None})
    assert "fc.bias is [9]" in refused({"fc.bias": torch.zeros(9)})
    many = refused({k: None for k in list(state)[:6] if "num_batches" not in k})
    assert "and 2 more" in many
    assert "NaN or infinite weights in fc.bias" in refused({"fc.bias": torch.full((10,), float("nan"))})
    assert "bn2.running_var" in refused({"bn2.running_var": torch.full((16,), float("inf"))})


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin", ".ckpt", ".tar", ""])
def test_any_suffix_of_a_pytorch_file(tmp_path, suffix):
    state = net().state_dict()
    torch.save({"state_dict": state}, tmp_path / f"w{suffix}")
    assert list(read_state_dict(tmp_path / f"w{suffix}")) == list(state)
    save_file(state, tmp_path / "w.safetensors")
    other = net(1)
    load_weights(other, tmp_path / "w.safetensors")
    assert same(other, state)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_whole_checkpoint_of_repdistiller(tmp_path, legacy):
    made = net()
    optimiser = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9, nesterov=True)
    made(torch.randn(4, 1, 8, 8)).sum().backward()
    optimiser.step()
    content = {
        "epoch": 240,
        "model": made.state_dict(),
        "accuracy": torch.tensor(71.3),
        "optimizer": optimiser.state_dict(),
        "best": None,
        "history": [(0, 1.5), (1, 1.25)],
    }
    torch.save(content, tmp_path / "ckpt_epoch_240.pth", _use_new_zipfile_serialization=not legacy)
    other = net(1)
    load_weights(other, tmp_path / "ckpt_epoch_240.pth")
    assert same(other, made.state_dict())


def test_prefixes_are_removed_when_all_have_them(tmp_path):
    state = net().state_dict()
    for i, prefix in enumerate(("module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.")):
        torch.save({f"{prefix}{k}": v for k, v in state.items()}, tmp_path / f"{i}.pth")
        assert list(read_state_dict(tmp_path / f"{i}.pth")) == list(state)
    # A name with and one without would become one.
    torch.save({"a": torch.zeros(1), "module.a": torch.ones(1)}, tmp_path / "both.pth")
    assert list(read_state_dict(tmp_path / "both.pth")) == ["a", "module.a"]


def test_the_message_says_what_the_file_holds(tmp_path):
    def refused(model: torch.nn.Module) -> str:
        with pytest.raises(MissingError) as caught:
            load_weights(model, tmp_path / "w.pth")
        return str(caught.value)

    torch.save(models.build("resnet8", 100).state_dict(), tmp_path / "w.pth")
    assert refused(models.build("resnet14", 100)).endswith(
        "The file holds resnet8 for 100 classes and colour images; name it with --arch resnet8."
    )
    assert refused(models.build("resnet8", 10, 8, 1)).endswith(
        ". The file holds resnet8 for 100 classes and colour images, not resnet8 for 10 classes and grey images."
    )
    assert refused(torch.nn.Linear(3, 2)).endswith("; name it with --arch resnet8.")


@pytest.mark.parametrize("legacy", [False, True])
def test_a_file_with_options_is_refused_and_says_so(tmp_path, legacy):
    content = {"opt": argparse.Namespace(model="resnet8"), "model": net().state_dict()}
    torch.save(content, tmp_path / "resnet8_last.pth", _use_new_zipfile_serialization=not legacy)
    with pytest.raises(MissingError) as caught:
        load_weights(net(1), tmp_path / "resnet8_last.pth")
    text = str(caught.value)
    assert "resnet8_last.pth would have to run code to be read and was refused" in text
    assert "it holds argparse.Namespace, which is no plain data" in text
    assert "take ckpt_epoch_N.pth from the same run" in text
    assert "\n" not in text


@pytest.mark.parametrize("form", ["pickle", "zip", "legacy"])
def test_a_malicious_pickle_is_refused_without_running(tmp_path, form):
    marker, file = tmp_path / "it ran", tmp_path / "w.pth"
    content = {"model": net().state_dict(), "hook": Evil(marker)}
    if form == "pickle":
        file.write_bytes(pickle.dumps(content))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MissingError, match="would have to run code"):
            load_weights(net(), file)
    assert not marker.exists()
    # The same file does run where pickle is trusted: the refusal above is not for want of danger.
    if form == "pickle":
        pickle.loads(file.read_bytes())
    else:
        torch.load(file, weights_only=False)
    assert marker.exists()


def test_a_whole_pickled_module_is_refused(tmp_path):
    torch.save(net(), tmp_path / "w.pth")
    with pytest.raises(MissingError, match="would have to run code"):
        read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize(
    "content",
    [b"", b"hello, this is a text file\n" * 20, b"\x80\x02", bytes(1000), b"PK\x03\x04" + bytes(60)],
)
@pytest.mark.parametrize("suffix", [".pth", ".pt", ".safetensors"])
def test_files_that_hold_no_weights(tmp_path, suffix, content):
    file = tmp_path / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(MissingError, match=rf"w{suffix}") as caught:
        read_state_dict(file)
    assert "\n" not in str(caught.value)


def test_other_objects_are_no_state_dicts(tmp_path):
    for i, content in enumerate(([1, 2], {}, {"a": 1}, {"model": {"a": 1}}, torch.zeros(3))):
        torch.save(content, tmp_path / f"{i}.pth")
        with pytest.raises(MissingError, match="holds no state dict"):
            read_state_dict(tmp_path / f"{i}.pth")
    with pytest.raises(MissingError, match=rf"no weights file at {tmp_path}/nowhere"):
        read_state_dict(tmp_path / "nowhere.pth")
    with pytest.raises(MissingError, match="no weights file"):
        read_state_dict(tmp_path)


@pytest.mark.parametrize("form", ["zip", "legacy", "safetensors"])
def test_no_damage_ends_in_a_traceback(tmp_path, form):
    good, file = tmp_path / "good", tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(net().state_dict(), good)
    else:
        torch.save(net().state_dict(), good, _use_new_zipfile_serialization=form == "zip")
    whole, refused = good.read_bytes(), 0
    rng = np.random.default_rng(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(250):
            damaged = bytearray(whole[: rng.integers(len(whole))] if i % 5 == 0 else whole)
            for at in rng.integers(0, max(1, min(len(damaged), 800)), 4):
                damaged[at : at + 1] = bytes([rng.integers(256)])
            file.write_bytes(bytes(damaged))
            try:
                read_state_dict(file)
            except MissingError as error:
                assert file.name in str(error)
                refused += 1
    assert refused > 100


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    save_weights(net(), file)
    before = file.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_weights(net(1), file)
    assert file.read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 1


def kinds(state: dict[str, torch.Tensor]) -> dict[str, tuple[torch.Tensor, str]]:
    """Strange tensors in the place of fc.weight, and what is said of them."""
    weight = state["fc.weight"]
    return {
        "int8": (weight.to(torch.int8), r"another kind of numbers .* fc.weight \(int8 for float32\)"),
        "bool": (weight > 0, r"fc.weight \(bool for float32\)"),
        "float8": (weight.to(torch.float8_e4m3fn), r"fc.weight \(float8_e4m3fn for float32\)"),
        "complex": (weight.to(torch.complex64), r"fc.weight \(complex64 for float32\)"),
        "large": (weight.double() + 1e300, r"fc.weight \(float64, too large for float32\)"),
        "sparse": (weight.to_sparse(), "fc.weight is a sparse coo tensor"),
        "meta": (weight.to("meta"), "fc.weight is a meta tensor"),
    }


@pytest.mark.parametrize("kind", ["int8", "bool", "float8", "complex", "large", "sparse", "meta"])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_foreign_kinds_of_numbers_are_named(tmp_path, kind, suffix):
    state = net().state_dict()
    strange, said = kinds(state)[kind]
    file = tmp_path / f"w{suffix}"
    content = {**state, "fc.weight": strange}
    if suffix == ".safetensors":
        if kind in ("sparse", "meta"):
            return  # the format has no such tensors
        save_file(content, file)
    else:
        torch.save(content, file)
    target = net(1)
    before = {k: v.clone() for k, v in target.state_dict().items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's on reading sparse tensors
        with pytest.raises(MissingError, match=said) as caught:
            load_weights(target, file)
    assert file.name in str(caught.value)
    assert same(target, before)


def test_a_quantised_tensor_is_named(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        strange = torch.quantize_per_tensor(torch.rand(10, 64), 0.1, 0, torch.qint8)
        torch.save({**net().state_dict(), "fc.weight": strange}, tmp_path / "w.pth")
        with pytest.raises(MissingError, match="fc.weight is a quantised tensor"):
            read_state_dict(tmp_path / "w.pth")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_and_counters_of_other_widths_are_welcome(tmp_path, dtype):
    made = net()
    state = {k: v.to(dtype if v.is_floating_point() else torch.int32) for k, v in made.state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    other = net(1)
    load_weights(other, tmp_path / "w.pth")
    wanted = made.state_dict()
    assert same(other, {k: v.to(wanted[k].dtype) for k, v in state.items()})


def test_archives_that_would_unpack_to_more_than_themselves_are_refused(tmp_path):
    good, packed, overlapping = (tmp_path / name for name in ("good.pth", "packed.pth", "overlapping.pth"))
    torch.save({"fc.weight": torch.zeros(1_000_000)}, good)
    with zipfile.ZipFile(good) as source, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target:
        for member in source.infolist():
            target.writestr(member.filename, source.read(member))
    assert packed.stat().st_size < good.stat().st_size / 100
    with pytest.raises(
        MissingError, match=r"packed.pth was not written by PyTorch and was refused: .* is compressed"
    ):
        read_state_dict(packed)
    # The directory names the large member nine times over.
    content = good.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    entries, size, at = struct.unpack("<HII", content[end + 10 : end + 20])
    if at == 0xFFFFFFFF:
        pytest.fail("PyTorch wrote a zip64 directory for a small file")
    directory = content[at : at + size]
    head = struct.pack("<4sHHHHIIH", b"PK\x05\x06", 0, 0, entries * 9, entries * 9, size * 9, at, 0)
    overlapping.write_bytes(content[:at] + directory * 9 + head)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(MissingError, match=r"overlapping.pth .* refused: [\d,]+ bytes in a file of"):
            read_state_dict(overlapping)
    assert list(read_state_dict(good)) == ["fc.weight"]


def test_a_name_that_cannot_be_a_files_is_missing():
    with pytest.raises(MissingError, match="File name too long"):
        read_state_dict("x" * 5000)


def test_nothing_in_the_room_can_run_a_pickle():
    source = Path(sys.modules["kdstats.models.weights"].__file__).read_text()
    assert source.count("torch.load(") == 1
    assert "weights_only=True" in source
    assert "weights_only=False" not in source
    assert "pickle.load" not in source
    found = subprocess.run(
        [
            "grep",
            "-rlE",
            r"pickle\.load|torch\.load\(|weights_only=False",
            str(Path(models.__file__).parents[1]),
            "--include=*.py",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert [Path(f).name for f in found.stdout.split()] == ["weights.py"]
