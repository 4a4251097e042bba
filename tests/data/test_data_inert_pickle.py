"""The reader of the CIFAR pickles: what it reads, and that it runs nothing."""

from __future__ import annotations

import copyreg
import os
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from data_makers import python2

from kdstats.data.sources import inert_pickle
from kdstats.errors import MissingError

ROWS = np.arange(2 * 3072, dtype=np.uint8).reshape(2, 3072)
DOCUMENT = {b"data": ROWS, b"fine_labels": [3, 99], b"batch_label": b"x" * 300, b"coarse_labels": [0, 1]}


def read(path: Path, blob: bytes) -> dict[str, object]:
    path.write_bytes(blob)
    return inert_pickle.read(path)


def same(found: dict[str, object]) -> None:
    assert set(found) == {"data", "fine_labels", "batch_label", "coarse_labels"}
    assert np.array_equal(found["data"], ROWS)
    assert found["data"].dtype == np.uint8
    assert (found["fine_labels"], found["batch_label"]) == ([3, 99], b"x" * 300)


def test_what_python_2_wrote(tmp_path):
    blob = python2(DOCUMENT)
    # The maker of the tests writes what the archive holds: this is how its files begin, and what they are made of.
    assert blob.startswith(b"\x80\x02}q\x00(U\x04dataq\x01cnumpy.core.multiarray\n_reconstruct\n")
    assert {op.name for op, _, _ in pickletools.genops(blob)} >= {"SHORT_BINSTRING", "BINSTRING", "BUILD"}
    same(read(tmp_path / "train", blob))
    unpickled = pickle.loads(blob, encoding="bytes")
    assert np.array_equal(unpickled[b"data"], ROWS)
    assert unpickled[b"fine_labels"] == [3, 99]


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_what_python_3_writes_in_the_old_protocols(tmp_path, protocol):
    document = {k.decode(): v for k, v in DOCUMENT.items() if k != b"data"}
    found = read(tmp_path / "train", pickle.dumps(document, protocol=protocol))
    assert (found["fine_labels"], found["batch_label"]) == ([3, 99], b"x" * 300)
    if protocol == 2:
        same(read(tmp_path / "train", pickle.dumps(DOCUMENT, protocol=2)))


def test_text_pickles_as_batches_meta_is_one(tmp_path):
    blob = (
        b"(dp1\nS'num_cases_per_batch'\np2\nI10000\nsS'label_names'\np3\n(lp4\nS'airplane'\np5\naS'automobile'\n"
        b"p6\nasS'num_vis'\np7\nI3072\ns."
    )
    assert read(tmp_path / "batches.meta", blob) == {
        "num_cases_per_batch": 10000,
        "label_names": [b"airplane", b"automobile"],
        "num_vis": 3072,
    }


def test_shared_values_are_shared(tmp_path):
    names = [b"a", b"b"]
    assert read(tmp_path / "f", python2({b"x": names, b"y": names, b"z": (1, None, True, -3, 1 << 40)})) == {
        "x": names,
        "y": names,
        "z": (1, None, True, -3, 1 << 40),
    }


class Malice:
    """Unpickling it creates a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("protocol", [0, 1, 2])
def test_a_malicious_pickle_is_refused_and_does_nothing(tmp_path, protocol):
    marker = tmp_path / "marker"
    file = tmp_path / "train"
    file.write_bytes(pickle.dumps({"data": ROWS.tolist(), "fine_labels": Malice(marker)}, protocol=protocol))
    with pytest.raises(MissingError, match=r"train is refused: it asks to import '(posix|nt)\.system'"):
        inert_pickle.read(file)
    assert not marker.exists()
    # And the pickle is what it is said to be: the usual way runs it.
    code = "import pickle, sys; pickle.load(open(sys.argv[1], 'rb'))"
    subprocess.run([sys.executable, "-c", code, str(file)], check=True, timeout=60)
    assert marker.exists()


def hostile() -> dict[str, bytes]:
    """Pickles that a list of permitted names alone would let through, or that want something else."""
    array = b"cnumpy.core.multiarray\n_reconstruct\n"
    state = b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
    return {
        "eval": b"\x80\x02c__builtin__\neval\nU\x011\x85R.",
        "getattr": b"\x80\x02cbuiltins\ngetattr\n.",
        "a name below a permitted one": b"\x80\x02cnumpy\nload\n.",
        "a dotted name": b"\x80\x02cnumpy.core.multiarray\n_reconstruct.__globals__\n.",
        "an instance": b"\x80\x02(U\x04lsoso\x94.",
        "INST": b"(S'touch /tmp/x'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'touch /tmp/x'\no.",
        "NEWOBJ": b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81.",
        "EXT1": b"\x80\x02\x82\x01.",
        "PERSID": b"Pabc\n.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        "a huge array": b"\x80\x02cnumpy\nndarray\n\x8a\x06\x00\x00\x00\x00\x00\x01\x85\x85R.",
        "reconstruct something else": b"\x80\x02" + array + b"cnumpy\ndtype\nK\x00\x85U\x01b\x87R.",
        "an array of objects": b"\x80\x02"
        + array
        + b"cnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        + state.replace(b"u1", b"O8")
        + b"\x89]tb.",
        "another codec": b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x04\x00\x00\x00zlib\x86R.",
        "the state of a list": b"\x80\x02]K\x01b.",
        "an import that is called as a value": b"\x80\x02}U\x04datacnumpy\ndtype\nsK\x01\x85R.",
    }


@pytest.mark.parametrize("what", list(hostile()))
def test_hostile_pickles_are_refused(tmp_path, what):
    before = dict(sys.modules)
    with pytest.raises(MissingError, match=r"train (is refused: |is no pickle of CIFAR)"):
        read(tmp_path / "train", hostile()[what])
    assert sys.modules == before


def test_a_name_alone_is_never_looked_up(tmp_path):
    """A permitted name stays a word: nothing of numpy is handed out."""
    with pytest.raises(MissingError, match="holds a _Name, expected a dictionary"):
        read(tmp_path / "train", b"\x80\x02cnumpy\nndarray\n.")


def test_the_extension_registry_is_not_asked(tmp_path):
    copyreg.add_extension("os", "system", 77)
    try:
        with pytest.raises(MissingError, match="the instruction EXT1 has no place"):
            read(tmp_path / "train", b"\x80\x02\x82\x4d.")
    finally:
        copyreg.remove_extension("os", "system", 77)


def test_allocations_are_bounded_by_the_file(tmp_path):
    # The C unpickler would make room for four billion memo entries here; this reader keeps one.
    assert read(tmp_path / "train", b"\x80\x02}r\xff\xff\xff\xff.") == {}
    for blob in (
        b"\x80\x02T\xff\xff\xff\x7fabc.",  # a string of two gigabytes
        b"\x80\x05\x96\xff\xff\xff\xff\x00\x00\x00\x00.",
    ):
        with pytest.raises(MissingError, match="is no pickle of CIFAR, or is cut short"):
            read(tmp_path / "train", blob)


def test_limits(tmp_path, monkeypatch):
    monkeypatch.setattr(inert_pickle, "STEP_LIMIT", 5)
    with pytest.raises(MissingError, match="more than 5 instructions"):
        read(tmp_path / "train", python2({b"a": [1, 2, 3, 4, 5, 6]}))
    monkeypatch.setattr(inert_pickle, "SIZE_LIMIT", 100)
    with pytest.raises(MissingError, match=r"train has 0 MB; no file of CIFAR has more than 155"):
        read(tmp_path / "train", python2({b"a": b"x" * 200}))


def test_what_is_no_dictionary_or_no_pickle(tmp_path):
    for blob, message in (
        (python2([1, 2]), "holds a list, expected a dictionary"),
        (b"", "is empty"),
        (b"hello", "is no pickle of CIFAR"),
        (b"\x80\x02}", "is no pickle of CIFAR, or is cut short"),
        (b"\x80\x02.", "is no pickle of CIFAR"),
        (b"\x80\x02}(K\x01u.", "is no pickle of CIFAR"),
        (b"\x80\x02}K\x01K\x02s.", "is refused: a int where text is expected"),
    ):
        with pytest.raises(MissingError, match=message):
            read(tmp_path / "train", blob)
    with pytest.raises(MissingError, match="absent cannot be read: No such file"):
        inert_pickle.read(tmp_path / "absent")
    with pytest.raises(MissingError, match="cannot be read: Is a directory"):
        inert_pickle.read(tmp_path)


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")  # of text that was damaged
def test_damaged_pickles_never_end_in_a_traceback(tmp_path):
    small = {**DOCUMENT, b"data": ROWS[:, :6]}
    good = python2(small)
    rng = np.random.default_rng(0)
    refused = 0
    for i in range(600):
        damaged = bytearray(good[: rng.integers(1, len(good))] if i % 3 == 0 else good)
        for at in rng.integers(0, len(damaged), 3):
            damaged[at] = rng.integers(256)
        try:
            assert isinstance(read(tmp_path / "train", bytes(damaged)), dict)
        except MissingError as error:
            assert "train" in str(error)
            refused += 1
    assert refused > 300


def shared(depth: int) -> bytes:
    """Tuples of tuples: each level holds the one below twice, so that printing it takes 2 ** depth words."""
    return b"".join(b"h\x02\x86q\x02" for _ in range(depth))


def test_a_label_is_not_printed(tmp_path):
    """Printing 40 levels of shared tuples would not end; as a label they are named by their type."""
    from kdstats.data.sources import cifar_python

    blob = python2({b"data": ROWS, b"fine_labels": [3, 4]})
    assert blob.endswith(b"(K\x03K\x04eu.")
    nested = blob[: -len(b"K\x04eu.")] + b")q\x02" + shared(40) + b"eu."
    for label, said in (
        (nested, "of type tuple"),
        (blob.replace(b"K\x04eu.", b"\x8a\x0a" + b"\x7f" * 10 + b"eu."), "63 bits"),
    ):
        (tmp_path / "train").write_bytes(label)
        with pytest.raises(MissingError, match=f"row 1: label is .*{said}, expected 0…99"):
            cifar_python._batch(tmp_path / "train", "fine_labels", 100)


def test_depth_is_borne_or_refused(tmp_path):
    deep = b")" + b"\x85" * 200_000
    for blob in (
        b"\x80\x02}U\x01a" + deep + b"s.",
        b"\x80\x02}" + deep + b"U\x01as.",
        b"\x80\x02" + deep + b".",
    ):
        try:
            assert set(read(tmp_path / "train", blob)) == {"a"}
        except MissingError as error:
            assert len(str(error)) < 300 + len(str(tmp_path))


@pytest.mark.parametrize("error", [RecursionError, MemoryError])
def test_what_exhausts_the_machine_is_refused(tmp_path, monkeypatch, error):
    def run(self: object, blob: bytes) -> None:
        raise error

    monkeypatch.setattr(inert_pickle._Machine, "run", run)
    with pytest.raises(MissingError, match=f"train is refused: it needs too much .{error.__name__}"):
        read(tmp_path / "train", b"\x80\x02}.")


LONG = 200_000


@pytest.mark.parametrize(
    "again",
    [
        b"c_codecs\nencode\nh\x00h\x01\x86R",  # the same text as bytes
        b"}h\x02K\x01s",  # the same bytes as a key
        b"cnumpy\ndtype\nh\x02\x85R",  # and as the code of a type
    ],
)
def test_what_is_made_is_no_more_than_the_file_holds(tmp_path, again):
    long = LONG.to_bytes(4, "little")
    head = (
        b"\x80\x02X"
        + long
        + b"a" * LONG
        + b"q\x00"
        + b"X\x06\0\0\0latin1q\x01"
        + b"T"
        + long
        + b"a" * LONG
        + b"q\x02"
    )
    assert isinstance(read(tmp_path / "train", head + again * 2 + b"}."), dict)
    with pytest.raises(MissingError, match="it makes more text than it holds"):
        read(tmp_path / "train", head + again * 5 + b"}.")


def test_words_of_the_file_are_cut_short(tmp_path):
    name = b"x" * 100_000
    for blob in (b"c" + name + b"\n" + name + b"\n.", b"I" + name + b"\n."):
        with pytest.raises(MissingError) as caught:
            read(tmp_path / "train", blob)
        assert len(str(caught.value)) < 400 + len(str(tmp_path))
