from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdstats.errors import UsageError
from kdstats.records.paths import (
    RunParts,
    RunPaths,
    StudyPaths,
    decode_name,
    encode_name,
    epoch_names,
    epoch_parts,
    parse,
)

ANY = st.text(min_size=1, max_size=20)
SCHEME = st.text("abcXYZ019_-+@()., =~%é", min_size=1, max_size=20).filter(lambda s: ".." not in s)
DIGEST = st.text("0123456789abcdef", min_size=8, max_size=64)


def accepted(name: str) -> bool:
    try:
        encode_name(name)
    except UsageError:
        return False
    return True


@given(ANY)
def test_a_name_is_refused_or_becomes_one_safe_folder_and_comes_back(name: str) -> None:
    bad = "/" in name or "\\" in name or ".." in name or any(ord(c) < 32 or ord(c) == 127 for c in name)
    assert not (bad and accepted(name))
    if accepted(name):
        folder = encode_name(name)
        assert folder.isascii()
        assert len(Path("a", folder).parts) == 2
        assert folder not in (".", "..")
        assert "__" not in folder
        assert decode_name(folder) == name


@given(SCHEME, SCHEME)
def test_unlike_names_have_unlike_folders(a: str, b: str) -> None:
    assert (encode_name(a) == encode_name(b)) == (a == b)


@given(SCHEME, SCHEME, SCHEME, st.integers(-(10**9), 10**9), DIGEST)
def test_the_path_of_a_run_is_read_back(
    teacher: str, student: str, scheme: str, seed: int, digest: str
) -> None:
    parts = RunParts(Path("/data/runs/study"), teacher, student, scheme, seed, digest)
    assert parse(parts.root) == parts
    assert parse(RunPaths(parts.root).sample_part(7)) == parts
    assert parts.root.parts[:5] == ("/", "data", "runs", "study", "runs")


@pytest.mark.parametrize("name", ["", "a/b", "a\\b", "..", "a..b", "a\nb", "a\0b", "\ud800", "a" * 256, "/"])
def test_names_that_are_no_folder_are_refused(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        RunPaths.of("s", teacher="t", student="s", scheme=name, seed=0, digest="0" * 8)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("digest", ["", "123", "../../..", "ABCDEF01", "0123456g"])
def test_digests_are_hexadecimal(digest: str) -> None:
    with pytest.raises(UsageError, match="digest"):
        RunPaths.of("s", teacher="t", student="s", scheme="x", seed=0, digest=digest)


def test_the_layout_is_the_one_of_the_design() -> None:
    paths = RunPaths.of(
        "st",
        teacher="wrn_40_2",
        student="wrn_16_2",
        scheme="pick(cutmix)@v2+flip",
        seed=3,
        digest="0123456789",
    )
    root = Path("st/runs/wrn_40_2__wrn_16_2/pick~28cutmix~29@v2+flip/seed=3/01234567")
    assert paths.root == root
    assert paths.sample_part(7) == root / "samples/epoch=0007.parquet"
    names = (
        "run.json metrics.jsonl pools.parquet last.safetensors best.safetensors state.pt log.txt done.json"
    )
    found = (
        paths.run_json, paths.metrics, paths.pools, paths.last, paths.best, paths.state, paths.log,
        paths.done,
    )  # fmt: skip
    assert [path.relative_to(root).as_posix() for path in found] == names.split()


def test_foreign_paths_and_urls_are_refused() -> None:
    for path in (
        "a/b",
        "s/runs/a__b__c/x/seed=0/01234567",
        "s/runs/a__b/x/seed=0/0123",
        "s/runs/a__b/~zz/seed=1/01234567",
    ):
        with pytest.raises(UsageError):
            parse(path)
    with pytest.raises(UsageError, match="URL"):
        StudyPaths("s3://bucket/study")  # type: ignore[arg-type]


def test_a_study_lists_its_runs_and_parts_are_in_order(tmp_path: Path) -> None:
    study = StudyPaths(tmp_path)
    runs = [
        study.run(teacher="t", student="s", scheme=x, seed=k, digest="0" * 8) for x in "ab" for k in (0, 1)
    ]
    for run in runs:
        run.samples.mkdir(parents=True)
    (tmp_path / "runs/t__s/a/seed=0/notes").mkdir()
    assert list(study.iter_runs()) == runs
    for name in (
        "epoch=10000.parquet",
        "epoch=0009.parquet",
        "epoch=0010.parquet",
        ".epoch=0001.parquet.h-1-00000000-0.tmp",
    ):
        (runs[0].samples / name).touch()
    assert [epoch for epoch, _ in epoch_parts(runs[0].samples)] == [9, 10, 10000]


def test_a_refusal_is_told_every_time_and_names_its_kind() -> None:
    for kind in ("teacher", "scheme", "scheme"):
        with pytest.raises(UsageError, match=f"^{kind} 'a/b' holds a path separator"):
            encode_name("a/b", kind)
        with pytest.raises(UsageError, match=f"^folder '~zz' is no {kind} "):
            decode_name("~zz", kind)
    assert encode_name("pick(a)") == encode_name("pick(a)", "scheme") == "pick~28a~29"
    assert decode_name("pick~28a~29") == decode_name("pick~28a~29", "scheme") == "pick(a)"


def test_parts_of_a_folder_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for absent in (tmp_path / "none", tmp_path / "file", tmp_path / "file" / "below", tmp_path / "loop"):
        assert epoch_parts(absent) == []
        assert epoch_names(absent) == []
    for name in (
        "epoch=0010.parquet",
        "epoch=0009.parquet",
        "epoch=00009.parquet",
        ".epoch=0001.parquet.tmp",
    ):
        (tmp_path / name).write_text("")
    names = ["epoch=00009.parquet", "epoch=0009.parquet", "epoch=0010.parquet"]
    assert epoch_names(tmp_path) == list(zip((9, 9, 10), names, strict=True))
    for epoch in range(99, 49, -1):
        (tmp_path / f"epoch={epoch:04d}.parquet").write_text("")
    assert [epoch for epoch, _ in epoch_names(tmp_path)] == [9, 9, 10, *range(50, 100)]
    assert epoch_parts(tmp_path) == [(epoch, tmp_path / name) for epoch, name in epoch_names(tmp_path)]
