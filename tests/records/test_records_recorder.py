from __future__ import annotations

import inspect
import json
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdstats.errors import CheckError, KdstatsError, UsageError
from kdstats.records.paths import RunPaths, epoch_parts
from kdstats.records.recorder import Recorder
from kdstats.records.scanner import read_pools, scan

torch = pytest.importorskip("torch")
MakeRun = Callable[..., Path]
TORCH_KINDS = {"torch32": "float32", "torch64": "float64", "bf16": "bfloat16", "fp16": "float16"}
MEASURED = ("ts_ce", "t_entropy", "t_ce", "s_ce")


def reference(teacher: Any, student: Any, labels: Any) -> dict[str, np.ndarray]:
    """The four losses and the mean probabilities in float64, written out."""
    t, s = np.asarray(teacher, np.float64), np.asarray(student, np.float64)
    lt = t - np.log(np.exp(t - t.max(1, keepdims=True)).sum(1, keepdims=True)) - t.max(1, keepdims=True)
    ls = s - np.log(np.exp(s - s.max(1, keepdims=True)).sum(1, keepdims=True)) - s.max(1, keepdims=True)
    p, rows = np.exp(lt), np.arange(len(t))
    return {
        "ts_ce": -(p * ls).sum(1),
        "t_entropy": -(p * lt).sum(1),
        "t_ce": -lt[rows, labels],
        "s_ce": -ls[rows, labels],
        "mean_prob": p.mean(0),
    }


def rows(run: Path, **options: Any) -> dict[str, np.ndarray]:
    batches = list(scan(run, **options))
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def one_batch(n: int = 4, classes: int = 3, seed: int = 0) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    return {
        "sample_id": np.arange(n) + 100,
        "labels": rng.integers(0, classes, n),
        "teacher_logits": rng.normal(size=(n, classes)),
        "student_logits": rng.normal(size=(n, classes)),
    }


def record_one(run: Path, batch: dict[str, Any], **options: Any) -> Path:
    with Recorder(run, classes=batch["teacher_logits"].shape[1], **options) as rec:
        rec.start_epoch(0)
        rec.add(step=0, **batch)
    return run


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=6),
    classes=st.integers(1, 12),
    scale=st.sampled_from([0.1, 3.0, 40.0]),
    kind=st.sampled_from(["numpy32", "numpy64", *TORCH_KINDS]),
    seed=st.integers(0, 2**31),
)
def test_values_agree_with_float64(
    tmp_path_factory: pytest.TempPathFactory,
    sizes: list[int],
    classes: int,
    scale: float,
    kind: str,
    seed: int,
) -> None:
    run = tmp_path_factory.mktemp("run")
    rng = np.random.default_rng(seed)
    expected: list[dict[str, np.ndarray]] = []
    ids, kds = [], []
    with Recorder(run, classes=classes) as rec:
        rec.start_epoch(3)
        for step, n in enumerate(sizes):
            t, s = rng.normal(size=(2, n, classes)) * scale
            labels, sample_id, kd = rng.integers(0, classes, n), rng.integers(0, 10**12, n), rng.random(n)
            if kind.startswith("numpy"):
                t, s = t.astype(f"f{int(kind[5:]) // 8}"), s.astype(f"f{int(kind[5:]) // 8}")
                given: tuple[Any, ...] = (t, s, labels, sample_id, kd)
            else:
                tt, ss = (torch.tensor(x).to(getattr(torch, TORCH_KINDS[kind])) for x in (t, s))
                given = (tt, ss.requires_grad_(), *map(torch.tensor, (labels, sample_id, kd)))
                t, s = tt.double().numpy(), ss.detach().double().numpy()  # what was in fact given
            expected.append(reference(t, s, labels))
            ids.append(sample_id)
            kds.append(kd)
            rec.add(
                step=step, teacher_logits=given[0], student_logits=given[1], labels=given[2],
                sample_id=given[3], loss_kd=given[4],
            )  # fmt: skip
    found = rows(run)
    for name in MEASURED:
        want = np.concatenate([e[name] for e in expected])
        np.testing.assert_allclose(found[name], want, rtol=3e-6, atol=3e-6 * max(1, scale), err_msg=name)
    np.testing.assert_array_equal(found["sample_id"], np.concatenate(ids))
    np.testing.assert_array_equal(found["step"], np.repeat(np.arange(len(sizes)), sizes))
    np.testing.assert_array_equal(found["slot"], np.concatenate([np.arange(n) for n in sizes]))
    np.testing.assert_allclose(found["s_loss_kd"], np.concatenate(kds), rtol=1e-6)
    assert set(found["epoch"]) == {3}
    assert (found["partner_id"] == -1).all()
    assert np.isnan(found["lam"]).all()
    pools = read_pools(run)
    np.testing.assert_array_equal(pools["n"], sizes)
    np.testing.assert_allclose(pools["mean_prob"], [e["mean_prob"] for e in expected], atol=1e-6)


def test_the_example_of_the_docstring_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doc = inspect.getdoc(Recorder)
    assert doc is not None
    code = textwrap.dedent(doc.split("in the data set)::\n\n")[1].split("\n\nAfterwards")[0])
    assert code.startswith("with Recorder(")
    monkeypatch.chdir(tmp_path)
    ids = torch.arange(8)
    logits = torch.randn(8, 100, generator=torch.Generator().manual_seed(0))
    space = {
        "Recorder": Recorder, "epochs": 2, "loader": [(None, ids, ids), (None, ids, ids)],
        "teacher_logits": logits, "student_logits": logits,
    }  # fmt: skip
    exec(code, space)
    found = rows(Path("runs/mine"))
    assert len(found["ts_ce"]) == 2 * 2 * 8
    np.testing.assert_allclose(found["ts_ce"], found["t_entropy"], rtol=1e-5)  # student is the teacher here


def test_it_works_without_torch(tmp_path: Path) -> None:
    code = """
    import sys
    sys.modules["torch"] = None  # importing it is an error now
    import numpy as np
    from kdstats import Recorder
    from kdstats.records.scanner import scan
    with Recorder(sys.argv[1], classes=3) as rec:
        rec.start_epoch(0)
        both = dict(teacher_logits=np.eye(3)[:2], student_logits=np.eye(3)[:2])
        rec.add(step=0, sample_id=[1, 2], labels=[0, 1], **both)
    print(sum(b.num_rows for b in scan(sys.argv[1])))
    """
    args = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "run")]
    found = subprocess.run(args, capture_output=True, text=True, check=False)
    assert (found.stdout, found.stderr) == ("2\n", "")


def test_many_batches_keep_order_ids_views_and_partners(tmp_path: Path) -> None:
    run, rng = tmp_path / "run", np.random.default_rng(1)
    want: dict[str, list[Any]] = {
        name: [] for name in ("sample_id", "partner_id", "lam", "label", "view", "step")
    }
    with Recorder(run, classes=4000) as rec:  # few rows fit in a chunk of 4000 classes: several chunks
        rec.start_epoch(0)
        for step in range(12):
            n = 50 if step < 11 else 7
            for code, view in enumerate(("original", "augmented")):
                ids, partner, labels = rng.integers(0, 10**9, (3, n))
                lam = rng.random(n).astype(np.float32)
                partner[0], lam[0] = -1, np.nan  # an image left unmixed
                logits = torch.from_numpy(rng.normal(size=(n, 4000)).astype(np.float32))
                extra = {"partner_id": torch.from_numpy(partner), "lam": lam} if code else {}
                rec.add(
                    step=step, sample_id=ids.tolist(), labels=labels % 4000, view=view,
                    teacher_logits=logits, student_logits=logits, **extra,
                )  # fmt: skip
                logits.zero_()  # the caller's tensors may change afterwards
                want["sample_id"].extend(ids)
                want["label"].extend(labels % 4000)
                want["partner_id"].extend(partner if code else [-1] * n)
                want["lam"].extend(lam if code else [np.nan] * n)
                want["view"].extend([code] * n)
                want["step"].extend([step] * n)
    found = rows(run)
    for name, values in want.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    assert found["t_entropy"].max() < 0.99 * np.log(4000)  # zeroed logits would give the logarithm exactly
    np.testing.assert_array_equal(read_pools(run)["n"], ([50] * 22) + [7, 7])


@pytest.mark.parametrize("where", ["teacher_logits", "student_logits", "loss_kd"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_nan_and_inf_name_epoch_step_and_ids(tmp_path: Path, where: str, value: float, kind: str) -> None:
    run = tmp_path / "run"

    def loop() -> None:
        with Recorder(run, classes=3) as rec:
            for epoch in range(2):
                rec.start_epoch(epoch)
                batch = one_batch() | {"loss_kd": np.ones(4)}
                if epoch == 1:
                    batch[where] = batch[where].copy()
                    batch[where][2] = value
                if kind == "torch":
                    batch = {name: torch.as_tensor(x) for name, x in batch.items()}
                rec.add(step=4, **(one_batch() | {"loss_kd": np.ones(4)}))
                rec.add(step=5, **batch)
                rec.end_epoch()

    with pytest.raises(CheckError, match=r"epoch 1, step 5, view 'original': .*sample ids 102\)") as caught:
        loop()
    assert caught.value.exit_code == 5
    assert ("s_loss_kd" if where == "loss_kd" else "ts_ce") in str(caught.value)
    assert [path.name for path in run.rglob("*.parquet")] == ["epoch=0000.parquet"] * 2  # samples and pools
    assert not list(run.rglob("*.tmp"))
    assert not (run / "done.json").exists()


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"labels": [0, 1, 3, 0]}, r"labels outside 0 … 2 for 1 images \(sample ids 102\)"),
        ({"labels": [0, -1, 3, 0]}, "2 images"),
        ({"sample_id": [0, 1, -2, 3]}, "negative sample ids"),
        ({"lam": 1.5}, "lam outside"),
        ({"student_logits": np.eye(4, 3) * 1e6}, "beyond float16"),
    ],
)
def test_values_that_cannot_be_are_refused(tmp_path: Path, change: dict[str, Any], match: str) -> None:
    with pytest.raises(CheckError, match=match):
        record_one(tmp_path / "run", one_batch() | change, dtype="float16")
    assert not list((tmp_path / "run").rglob("*.parquet"))


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"teacher_logits": np.zeros((4, 2))}, r"student_logits is of shape \[4, 3\]; expected \[n, 2\]"),
        ({"student_logits": np.zeros((5, 3))}, "same number"),
        ({"student_logits": [[0.0] * 3] * 4}, "no array"),
        ({"sample_id": [1, 2, 3]}, r"sample_id is of shape \[3\]; expected \[4\]"),
        ({"sample_id": [0.5, 1, 2, 3]}, "expected integers"),
        ({"labels": np.zeros((4, 3))}, "labels is of shape"),
        ({"loss_kd": np.float32(1)}, 'reduction="none"'),
        ({"partner_id": ["a"] * 4}, "expected numbers"),
        ({"view": "augment"}, "Did you mean 'augmented'"),
    ],
)
def test_arguments_that_do_not_fit_are_refused_at_once(
    tmp_path: Path, change: dict[str, Any], match: str
) -> None:
    with Recorder(tmp_path / "run", classes=(one_batch() | change)["teacher_logits"].shape[1]) as rec:
        rec.start_epoch(0)
        with pytest.raises(UsageError, match=match):
            rec.add(step=0, **(one_batch() | change))


def test_the_order_of_calls_is_checked(tmp_path: Path) -> None:
    rec = Recorder(tmp_path / "run", classes=3)
    with pytest.raises(UsageError, match="start_epoch"):
        rec.add(step=0, **one_batch())
    rec.start_epoch(2)
    rec.add(step=0, **one_batch())
    with pytest.raises(UsageError, match="step 0 of epoch 2 was recorded before for view 'original'"):
        rec.add(step=0, **one_batch())
    with pytest.raises(UsageError, match="a tensor would wait"):
        rec.add(step=torch.tensor(1), **one_batch())  # type: ignore[arg-type]
    rec.start_epoch(3)  # ends epoch 2
    with pytest.raises(UsageError, match="epochs must rise"):
        rec.start_epoch(3)
    rec.close()
    rec.close()
    with pytest.raises(UsageError, match="closed"):
        rec.start_epoch(4)
    assert [epoch for epoch, _ in epoch_parts(rec.paths.samples)] == [2]


def test_thinning_and_float16(tmp_path: Path) -> None:
    full, thin = tmp_path / "full", tmp_path / "thin"
    for run, options in ((full, {}), (thin, {"every": 3, "dtype": "float16"})):
        with Recorder(run, classes=3, **options) as rec:
            for epoch in range(7):
                rec.start_epoch(epoch)
                assert rec.recording == (epoch % options.get("every", 1) == 0)
                rec.add(step=0, **one_batch(seed=epoch))
                rec.end_epoch()
    assert [epoch for epoch, _ in epoch_parts(thin / "samples")] == [0, 3, 6]
    a, b = rows(full, epochs=[0, 3, 6]), rows(thin)
    assert b["ts_ce"].dtype == np.float32
    np.testing.assert_allclose(a["ts_ce"], b["ts_ce"], rtol=6e-4)
    assert not np.array_equal(a["ts_ce"], b["ts_ce"])
    np.testing.assert_array_equal(np.unique(read_pools(thin)["epoch"]), [0, 3, 6])


def test_directories_with_records_are_not_mixed(make_run: MakeRun) -> None:
    run = make_run(epochs=3, meta={"digest": "one"})
    with pytest.raises(UsageError, match="complete run"):
        Recorder(run, classes=5, resume=True)
    (run / "done.json").unlink()
    with pytest.raises(UsageError, match=r"epochs 0 … 2 of an unfinished run; pass resume=True"):
        Recorder(run, classes=5)
    with pytest.raises(UsageError, match="begun with classes=5, not 6"):
        Recorder(run, classes=6, resume=True)
    with pytest.raises(UsageError, match="digest 'one', not 'two'"):
        Recorder(run, classes=5, resume=True, meta={"digest": "two"})
    with Recorder(run, classes=3, overwrite=True) as rec:
        rec.start_epoch(9)
        rec.add(step=0, **one_batch())
    assert set(rows(run)["epoch"]) == set(read_pools(run)["epoch"]) == {9}
    assert json.loads((run / "run.json").read_text())["classes"] == 3


def test_resuming_drops_the_epochs_that_are_trained_anew(make_run: MakeRun) -> None:
    run = make_run(epochs=4, meta={"digest": "one"})
    (run / "done.json").unlink()  # as if killed after the pools were merged
    with Recorder(run, classes=5, resume=True) as rec:
        assert rec.digest == "one"
        rec.start_epoch(1)
        rec.add(step=0, **one_batch(classes=5))
    for found in (rows(run), read_pools(run)):
        np.testing.assert_array_equal(np.unique(found["epoch"]), [0, 1])
    assert (rows(run)["epoch"] == 1).sum() == 4


def test_a_runners_own_run_json_is_left_alone(make_run: MakeRun, tmp_path: Path) -> None:
    paths = RunPaths(tmp_path / "run")
    paths.root.mkdir()
    paths.run_json.write_text('{"recipe": 1}')
    make_run("run")
    assert json.loads(paths.run_json.read_text()) == {"recipe": 1}


def test_an_error_in_the_loop_keeps_ended_epochs_only(tmp_path: Path) -> None:
    run = tmp_path / "run"

    def loop() -> None:
        with Recorder(run, classes=3) as rec:
            rec.start_epoch(0)
            rec.add(step=0, **one_batch())
            rec.end_epoch()
            rec.start_epoch(1)
            rec.add(step=0, **one_batch())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop()
    assert [path.relative_to(run).as_posix() for path in sorted(run.rglob("*.parquet"))] == [
        "pools/epoch=0000.parquet",
        "samples/epoch=0000.parquet",
    ]
    assert not list(run.rglob("*.tmp"))


def test_a_failure_in_the_background_stops_the_loop(tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "samples").touch()  # a file where a folder must be
    steps = 0

    def loop() -> None:
        nonlocal steps
        with Recorder(run, classes=1000) as rec:
            rec.start_epoch(0)
            for steps in range(100_000):
                rec.add(step=steps, **one_batch(64, 1000))

    with pytest.raises(KdstatsError, match=r"cannot write .*epoch=0000\.parquet"):
        loop()
    assert 16 <= steps < 5000  # found at an add, long before the end
    assert not list(run.rglob("*.tmp"))
    assert not list(run.rglob("*.parquet"))


def test_logits_of_inference_mode_and_changing_dtypes_are_taken(tmp_path: Path) -> None:
    run, want = tmp_path / "run", []
    with Recorder(run, classes=3) as rec:
        rec.start_epoch(0)
        for step, dtype in enumerate(["bfloat16", "float64", "float32"]):
            batch = one_batch(seed=step)
            t, s = (
                torch.tensor(batch[f"{x}_logits"]).to(getattr(torch, dtype)) for x in ("teacher", "student")
            )
            want.append(reference(t.double().numpy(), s.double().numpy(), batch["labels"])["ts_ce"])
            with torch.inference_mode(step == 0):
                both = {"teacher_logits": t.clone(), "student_logits": s.clone()}
                rec.add(step=step, **(batch | both))
        rec.add(step=3, **one_batch(seed=9))
    np.testing.assert_allclose(rows(run)["ts_ce"][:12], np.concatenate(want), rtol=2e-6)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_cuda_gives_the_values_of_the_cpu_without_waiting(tmp_path: Path) -> None:
    runs = {}
    for device in ("cpu", "cuda"):
        run = tmp_path / device
        with Recorder(run, classes=3) as rec:
            rec.start_epoch(0)
            for step in range(2500):
                batch = {name: torch.as_tensor(x).to(device) for name, x in one_batch(seed=step % 7).items()}
                if step % 2:
                    batch["labels"] = batch["labels"].cpu()
                torch.cuda.synchronize()
                torch.cuda.set_sync_debug_mode("error" if device == "cuda" and not step % 2 else "default")
                rec.add(step=step, **batch)
                torch.cuda.set_sync_debug_mode("default")
        runs[device] = rows(run)
    for name, values in runs["cpu"].items():
        np.testing.assert_allclose(runs["cuda"][name], values, rtol=1e-5, atol=1e-6, err_msg=name)
