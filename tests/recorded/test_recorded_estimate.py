"""The bridge from rows to estimates, against the numbers that were given to the Recorder."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest

from kdstats.errors import CheckError, MissingError, UsageError
from kdstats.estimators.covariance import ce_covariance, wang2022_v3
from kdstats.estimators.identity import variance_components
from kdstats.estimators.published import v3_sets, wang2022_v2
from kdstats.estimators.tstddev import t_stddev
from kdstats.recorded import estimate as subject
from kdstats.recorded import images
from kdstats.recorded.find import find_runs, identify, refuse_twice
from kdstats.recorded.pools import pool_estimates
from kdstats.recorded.steps import full_steps, last_quarter, step_matrix
from kdstats.recorded.summary import alike, log_over_seeds, over_seeds, run_rows, seed_rows
from kdstats.records import scanner
from kdstats.records.part import write_table
from kdstats.records.paths import RunPaths
from kdstats.records.scanner import read_pools
from kdstats.records.writer import write_done
from tests.recorded.conftest import BATCH, IMAGES, record

ALL = [1, 2, 3, 4, 5, 6]


def matrix(told, epochs, full=IMAGES // BATCH):
    """The full steps as they were given, originals and then views."""
    rows = [[told[e, s, v, i][1] for v in (0, 1) for i in range(BATCH)] for e in epochs for s in range(full)]
    return np.array(rows), np.repeat(epochs, full)


def test_steps_are_those_recorded_and_short_ones_are_left_out(make):
    path, told = make()
    u, epochs, _ = step_matrix(RunPaths(path), ALL)
    wanted, labels = matrix(told, ALL)
    assert u == pytest.approx(wanted, rel=1e-4)
    assert epochs.tolist() == labels.tolist()
    assert last_quarter(RunPaths(path)) == [6]


@pytest.mark.parametrize("rows", [7, 16, 33, 1000])
def test_steps_do_not_depend_on_the_portions_read(make, monkeypatch, rows):
    path, told = make(epochs=2)
    monkeypatch.setattr("kdstats.recorded.steps.scan", lambda *a, **k: scanner.scan(*a, **k, batch_rows=rows))
    chunks = list(full_steps(RunPaths(path), ["ts_ce"]))
    u = np.concatenate([chunk.matrix("ts_ce") for chunk in chunks])
    assert u == pytest.approx(matrix(told, [1, 2])[0], rel=1e-4)
    assert sum(len(chunk.rows["ts_ce"]) for chunk in chunks) == 2 * 2 * IMAGES


def rewritten(path, change):
    """The run with the rows of epoch 1 changed."""
    paths = RunPaths(path)
    (batch,) = scanner.scan([paths], epochs=[1])
    rows = change({name: values.copy() for name, values in batch.items()})
    rows["lam"], rows["partner_id"] = np.full(len(rows["lam"]), np.nan), np.full(len(rows["lam"]), np.nan)
    header = scanner._header(paths.sample_part(1))
    write_table(paths.sample_part(1), "samples", rows, digest=header.digest, meta=header.meta)
    write_done(paths)
    return paths


def test_rows_of_a_step_may_lie_in_any_order(make):
    path, told = make(epochs=1)
    rng = np.random.default_rng(0)

    def shuffle(rows):
        order = np.lexsort((rng.random(len(rows["step"])), rows["step"]))
        return {name: values[order] for name, values in rows.items()}

    u, _, _ = step_matrix(rewritten(path, shuffle), [1])
    assert u == pytest.approx(matrix(told, [1])[0], rel=1e-4)


def test_steps_that_come_apart_and_slots_filled_twice_are_named(make):
    path, _ = make(epochs=1)
    paths = rewritten(path, lambda rows: {k: np.concatenate([v[8:], v[:8]]) for k, v in rows.items()})
    with pytest.raises(CheckError, match="epoch 1: step 0 comes again"):
        step_matrix(paths, [1])
    path, _ = make("twice", epochs=1)

    def double(rows):
        rows["slot"][16 + 3] = 2  # in the second step, so that the first says what a step is
        return rows

    with pytest.raises(CheckError, match="step 1: a slot is filled twice"):
        step_matrix(rewritten(path, double), [1])


def test_covariance_is_that_of_the_matrix_within_epochs(make):
    path, told = make()
    found = subject.estimate_run(RunPaths(path), ALL, by_epoch=True)
    u, labels = matrix(told, ALL)
    wanted = ce_covariance(u, groups=labels)
    for name in ("mean_variance", "mean_covariance", "risk_variance", "design_effect"):
        ours, theirs = getattr(found.whole.covariance, name), getattr(wanted, name)
        assert ours.value == pytest.approx(theirs.value, rel=1e-4), name
        assert ours.low < ours.value < ours.high
    one = ce_covariance(u[labels == 3])
    alone = found.by_epoch[3].covariance
    assert alone.mean_covariance.value == pytest.approx(one.mean_covariance.value, rel=1e-3)
    assert alone.mean_covariance.se == pytest.approx(one.mean_covariance.se, rel=1e-3)
    everything = np.array([value for _, value in told.values()])
    assert found.whole.mean == pytest.approx(everything.mean(), rel=1e-5)
    assert found.rows == len(everything)


def test_components_are_those_of_the_rows(make):
    path, told = make()
    found = subject.estimate_run(RunPaths(path), ALL, by_epoch=True).whole.components
    keys = np.array(list(told))
    wanted = variance_components(
        [value for _, value in told.values()],
        image=[i for i, _ in told.values()],
        epoch=keys[:, 0],
        batch=keys[:, 1],
        view=keys[:, 2],
    )
    assert (found.images, found.dropped) == (IMAGES, 0)
    for name, estimate in wanted.components.items():
        assert found.components[name].value == pytest.approx(estimate.value, rel=1e-3, abs=1e-5), name
    for kind, estimate in wanted.correlations.items():
        assert found.correlations[kind].value == pytest.approx(estimate.value, abs=1e-4), kind
        assert found.correlations[kind].low == pytest.approx(estimate.low, abs=1e-3), kind


def test_images_missing_from_an_epoch_are_left_out_and_picks_are_no_sample(make):
    path, told = make(drop=1)
    found = subject.estimate_run(RunPaths(path), ALL).whole.components
    seen = {i: set() for i in range(IMAGES)}
    for (epoch, *_), (image, _) in told.items():
        seen[image].add(epoch)
    assert found.images == sum(len(epochs) == 6 for epochs in seen.values())
    path, _ = make("picked", pick=True)
    picked = subject.estimate_run(RunPaths(path), ALL)
    assert picked.whole.components is None
    assert any("no sample of all" in note for note in picked.notes)
    assert picked.whole.covariance is not None


def test_many_images_are_thinned_by_id(make, monkeypatch):
    path, _ = make()
    monkeypatch.setattr(images, "MOST_CELLS", 46 * 6 // 2)
    found = subject.estimate_run(RunPaths(path), ALL)
    assert found.thinning == 2
    assert 10 <= found.whole.components.images < 40
    assert found.whole.components.dropped == 0


def test_originals_only(make):
    path, told = make(views=False)
    found = subject.estimate_run(RunPaths(path), ALL)
    assert found.inputs == (BATCH, 0)
    assert found.whole.components.views == 1
    u = [[told[e, s, 0, i][1] for i in range(BATCH)] for e in ALL for s in range(IMAGES // BATCH)]
    wanted = ce_covariance(u, groups=np.repeat(ALL, IMAGES // BATCH)).mean_covariance.value
    assert found.whole.covariance.mean_covariance.value == pytest.approx(wanted, rel=1e-3)


def test_published_statistics(make, monkeypatch):
    path, told = make()
    monkeypatch.setattr(subject, "V3_ENTRIES", 3 * 2 * BATCH)
    monkeypatch.setattr(subject, "v3_sets", lambda steps: v3_sets(steps, entries=3 * 2 * BATCH))
    found = subject.estimate_run(RunPaths(path), ALL)
    u, _ = matrix(told, ALL)
    assert found.v3_sets == 10
    assert found.wang2022_v3 == pytest.approx(wang2022_v3(u.reshape(10, -1)), rel=1e-3)
    assert found.wang2022_v3_teacher is not None
    pools = read_pools(path)
    steps = [np.flatnonzero((pools["epoch"] == e) & (pools["step"] == s)) for e in ALL for s in range(6)]
    means = [(pools["n"][at] @ pools["mean_prob"][at]) / pools["n"][at].sum() for at in steps]
    assert found.cov1.value == pytest.approx(np.mean([m.var(ddof=1) for m in means]), rel=1e-5)
    # The same as v2 of probabilities with these means.
    assert wang2022_v2([means[0], means[0]]).values["cov1"] == pytest.approx(means[0].var(ddof=1), rel=1e-3)
    sums = [(pools["n"][at] @ pools["mean_prob"][at], pools["n"][at].sum()) for at in steps]
    formed = [
        sum(s for s, _ in sums[k : k + 5]) / sum(n for _, n in sums[k : k + 5]) for k in range(0, 35, 5)
    ]
    assert found.t_stddev.value == pytest.approx(t_stddev(formed).value, rel=1e-5)
    assert found.t_stddev.definition.startswith("t_stddev[pool=5x16;views=original+augmented")


def test_pools_do_not_depend_on_portions(make, monkeypatch):
    path, _ = make()
    whole = pool_estimates(RunPaths(path))
    portions = read_pools(path)

    def pieces(*_, **__):
        for at in range(0, len(portions["n"]), 3):
            yield {name: values[at : at + 3] for name, values in portions.items()}

    monkeypatch.setattr("kdstats.recorded.pools.scan_pools", pieces)
    found = pool_estimates(RunPaths(path))
    assert found.t_stddev.value == pytest.approx(whole.t_stddev.value, rel=1e-12)
    assert (found.steps, found.classes) == (whole.steps, whole.classes) == (36, 5)


def test_short_runs_say_what_they_cannot_give(make):
    path, _ = make(epochs=1)
    found = subject.estimate_run(RunPaths(path), [1])
    assert found.t_stddev is None
    assert found.wang2022_v3 is None
    assert any("no T. stddev" in note for note in found.notes)
    assert any("make 0 sets of 6,400" in note for note in found.notes)
    assert found.whole.covariance.observations == 5


def test_nan_is_named(make):
    path, _ = make(epochs=1)

    def spoil(rows):
        rows["ts_ce"][5] = np.inf
        return rows

    with pytest.raises(CheckError, match=r"infinit"):
        subject.estimate_run(rewritten(path, spoil), [1])


def test_runs_are_found_and_known(make, tmp_path):
    for seed in (0, 1):
        make(f"study/a/seed={seed}", seed=seed, epochs=1)
    study = tmp_path / "study"
    found = find_runs([study])
    assert [f.paths.root.name for f in found] == ["seed=0", "seed=1"]
    assert not any(f.named for f in found)
    assert [f.named for f in find_runs([study, study / "a" / "seed=1"])] == [False, True]
    assert len(find_runs([f"{study}/*/seed=*"])) == 2
    known = [(f.paths, identify(f.paths)) for f in found]
    assert known[0][1].key == known[1][1].key
    assert (known[1][1].scheme, known[1][1].seed, known[1][1].classes) == ("cutmix", 1, 5)
    refuse_twice(known)
    shutil.copytree(study / "a" / "seed=0", tmp_path / "copy")
    with pytest.raises(UsageError, match="are the same run"):
        refuse_twice([*known, (RunPaths(tmp_path / "copy"), identify(RunPaths(tmp_path / "copy")))])
    with pytest.raises(UsageError, match="given twice"):
        find_runs([study / "a" / "seed=0"] * 2)
    for word, said in ((tmp_path / "none", "does not exist"), (f"{study}/x*", "no run directory matches")):
        with pytest.raises(MissingError, match=said):
            find_runs([word])
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingError, match="holds no run"):
        find_runs([tmp_path / "empty"])
    with pytest.raises(UsageError, match="name a run"):
        find_runs([])


def test_seeds_are_averaged_and_unlike_runs_are_not(tmp_path):
    for seed in range(3):
        record(tmp_path / f"a{seed}", seed=seed)
    record(tmp_path / "b", seed=7, recipe="another")
    runs = [subject.estimate_run(RunPaths(tmp_path / name), ALL) for name in ("a0", "a1", "a2", "b")]
    groups = alike(runs)
    assert [len(group) for group in groups] == [3, 1]
    values = np.array([run.whole.covariance.mean_covariance.value for run in runs[:3]])
    (row,) = [r for r in seed_rows(groups[0], 0.95) if r.quantity == "mean_covariance"]
    assert row.estimate.value == pytest.approx(values.mean())
    assert row.sd == pytest.approx(values.std(ddof=1))
    half = 4.302652729911275 * values.std(ddof=1) / 3**0.5  # t of 2 degrees of freedom
    assert row.estimate.high - row.estimate.value == pytest.approx(half, rel=1e-9)
    assert len(alike([runs[0], subject.estimate_run(RunPaths(tmp_path / "a1"), [5, 6])])) == 2
    alone, sd = over_seeds([runs[0].whole.covariance.mean_covariance])
    assert alone == runs[0].whole.covariance.mean_covariance
    assert np.isnan(sd)
    assert (
        over_seeds([runs[i].whole.components.correlations["same_batch"] for i in (0, 1)], -1, 1)[0].high <= 1
    )


def test_t_stddev_over_seeds_is_centred_on_the_corrected_logarithms(tmp_path):
    for seed in range(3):
        record(tmp_path / f"a{seed}", seed=seed)
    runs = [subject.estimate_run(RunPaths(tmp_path / f"a{seed}"), ALL) for seed in range(3)]
    (row,) = [r for r in seed_rows(runs, 0.95) if r.quantity == "t_stddev"]
    logs = []
    for seed in range(3):
        found = pool_means(tmp_path / f"a{seed}")
        k = len(found)
        left = [np.log(np.delete(found, i, 0).std(0, ddof=1).mean()) for i in range(k)]
        logs.append(k * np.log(found.std(0, ddof=1).mean()) - (k - 1) * np.mean(left))
    half = 4.302652729911275 * np.std(logs, ddof=1) / 3**0.5
    assert row.estimate.value == pytest.approx(np.exp(np.mean(logs)), rel=1e-5)
    assert row.estimate.low == pytest.approx(np.exp(np.mean(logs) - half), rel=1e-4)
    assert row.estimate.high == pytest.approx(np.exp(np.mean(logs) + half), rel=1e-4)
    assert row.sd == pytest.approx(row.estimate.value * np.std(logs, ddof=1), rel=1e-4)
    assert "geometric mean" in row.estimate.method
    assert (row.estimate.definition, row.runs) == (runs[0].t_stddev.definition, 3)
    assert any(note.startswith("3 of 3 runs: an epoch holds only") for note in row.estimate.notes)
    assert not any("square root biases" in note for note in row.estimate.notes)
    assert log_over_seeds([runs[0].t_stddev])[0] == runs[0].t_stddev


def pool_means(path):
    """``[K, C]`` means of five consecutive steps, both views."""
    pools = read_pools(path)
    keys = sorted(set(zip(pools["epoch"].tolist(), pools["step"].tolist(), strict=True)))
    out = []
    for at in range(0, len(keys) // 5 * 5, 5):
        rows = [
            i
            for i, key in enumerate(zip(pools["epoch"].tolist(), pools["step"].tolist(), strict=True))
            if key in keys[at : at + 5]
        ]
        out.append(np.average(pools["mean_prob"][rows].astype(float), axis=0, weights=pools["n"][rows]))
    return np.array(out)


@pytest.mark.simulation
def test_t_stddev_over_seeds_covers_the_law_of_its_pools():
    """C = 100, K = 10, 5 seeds; plain values with t over seeds cover 0.4 here."""
    truth, rng, reps = (0.01 * 0.99 / 320) ** 0.5, np.random.default_rng(5), 400
    hits = []
    for _ in range(reps):
        seeds = [t_stddev(rng.multinomial(320, np.full(100, 0.01), size=10) / 320) for _ in range(5)]
        found, _ = log_over_seeds(seeds)
        hits.append(found.low <= truth <= found.high)
    assert np.mean(hits) >= 0.95 - 3 * (0.95 * 0.05 / reps) ** 0.5  # 0.917


def test_few_pools_an_epoch_are_noted_and_enough_are_not(make, monkeypatch):
    path, _ = make()
    found = pool_estimates(RunPaths(path)).t_stddev
    # 46 images and 46 views an epoch, 16 inputs a step: 1.15 pools of 5 steps.
    assert any("an epoch holds only 1.1 pools" in note or "only 1.2 pools" in note for note in found.notes)
    monkeypatch.setattr("kdstats.recorded.pools.BATCHES_PER_POOL", 1)
    assert not any("an epoch holds" in note for note in pool_estimates(RunPaths(path)).t_stddev.notes)


def logged(path, change):
    """The run with its pools changed."""
    paths = RunPaths(path)
    rows = change({name: values.copy() for name, values in read_pools(path).items()})
    write_table(paths.pools, "pools", rows, digest="0" * 64, meta={})
    write_done(paths)
    return paths


def test_a_constant_teacher_has_no_t_stddev_and_all_the_rest(make):
    path, _ = make()

    def constant(rows):
        rows["mean_prob"][:] = rows["mean_prob"][0]
        return rows

    found = subject.estimate_run(logged(path, constant), ALL)
    assert found.t_stddev is None
    assert [n for n in found.notes if "T. stddev" in n] == [
        "no T. stddev: all 7 pool means are equal: nothing varies, T. stddev has no interval"
    ]
    assert found.whole.covariance is not None
    assert found.cov1 is not None
    assert {"mean_covariance", "v2_cov1"} <= {row.quantity for row in run_rows(found, 0.95)}


@pytest.mark.parametrize("number", [0, -8])
def test_means_of_no_images_are_named(make, number):
    path, _ = make(epochs=2)

    def negative(rows):
        rows["n"][5] = number
        return rows

    paths = logged(path, negative)
    with pytest.raises(
        CheckError, match=rf"pools.parquet: pools: epoch 1, step 2 is a mean of {number} images"
    ):
        pool_estimates(paths)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("ts_ce", -0.5, "ts_ce goes down to -0.5 nats"),
        ("t_entropy", -0.5, "t_entropy goes down to -0.5 nats"),
        ("sample_id", -3, "sample_id -3; ids are 0 or more"),
        ("slot", 0, "epoch 1, step 0: a slot is filled twice"),
    ],
)
def test_impossible_rows_are_named(make, column, value, said):
    path, _ = make(epochs=1)

    def spoil(rows):
        at = slice(None) if column == "slot" else 5
        rows[column][at] = value
        return rows

    with pytest.raises(CheckError, match=said):
        subject.estimate_run(rewritten(path, spoil), [1])


@pytest.mark.parametrize("text", ["[]", "null", '"x"', '{"run": "x"}', '{"run": ["x"]}', "[" * 100_000])
def test_a_foreign_run_json_is_named(make, text):
    path, _ = make(epochs=1)
    paths = RunPaths(path)
    paths.run_json.write_text(text, encoding="utf-8")
    write_done(paths)
    with pytest.raises(MissingError, match=r"run\.json.* is damaged"):
        identify(paths)
    paths.run_json.write_text(text + " ", encoding="utf-8")
    with pytest.raises(MissingError, match="not as its done.json says"):
        identify(paths)


@pytest.mark.parametrize("key", ["rows", "bytes"])
@pytest.mark.parametrize("value", ["x", -5, 1e15, True, [1]])
def test_counts_of_done_json_are_checked(make, key, value):
    path, _ = make(epochs=1)
    paths = RunPaths(path)
    done = json.loads(paths.done.read_text())
    done["parts"]["samples/epoch=0001.parquet"][key] = value
    paths.done.write_text(json.dumps(done))
    with pytest.raises(MissingError, match=r"done\.json: what it says of 'samples/epoch=0001"):
        subject.estimate_run(paths, [1])


def test_a_done_json_that_says_other_rows_or_nothing_is_named(make):
    path, _ = make(epochs=1)
    paths = RunPaths(path)
    done = json.loads(paths.done.read_text())
    for value, said in ((10**15, "has 92 rows, .*done.json says 1000000000000000"), (None, "says None")):
        done["parts"]["samples/epoch=0001.parquet"]["rows"] = value
        paths.done.write_text(json.dumps(done))
        with pytest.raises(MissingError, match=said):
            subject.estimate_run(paths, [1])
    done["parts"]["samples/epoch=0001.parquet"] = None
    paths.done.write_text(json.dumps(done))
    with pytest.raises(MissingError, match="a NoneType where a mapping belongs"):
        subject.estimate_run(paths, [1])
    paths.done.write_text("[" * 100_000)
    with pytest.raises(MissingError, match="nested too deeply"):
        subject.estimate_run(paths, [1])


@pytest.mark.parametrize("meta", ['["x"]', "null", '{"meta": "x"}', '{"identity": [1]}', "[" * 100_000])
def test_metadata_of_another_shape_is_named(make, meta):
    path, _ = make(epochs=1)
    part = RunPaths(path).sample_part(1)
    table = pq.read_table(part)
    pq.write_table(
        table.replace_schema_metadata({**table.schema.metadata, b"kdstats.meta": meta.encode()}),
        part,
        write_page_checksum=True,
    )
    write_done_by_hand(RunPaths(path))
    with pytest.raises(MissingError, match=r"epoch=0001\.parquet.* is damaged"):
        identify(RunPaths(path))


@pytest.mark.parametrize("name", ["samples/epoch=0002.parquet", "pools.parquet"])
def test_metadata_nested_too_deeply_is_named_in_every_part(make, name):
    path, _ = make(epochs=2)
    table = pq.read_table(path / name)
    header = {**table.schema.metadata, b"kdstats.meta": b"[" * 100_000}
    pq.write_table(table.replace_schema_metadata(header), path / name, write_page_checksum=True)
    write_done_by_hand(RunPaths(path))
    with pytest.raises(MissingError, match=f"{name.split('/')[0]}.* is damaged.*nested too deeply"):
        subject.estimate_run(RunPaths(path), [1, 2])


def write_done_by_hand(paths):
    """The sizes in ``done.json`` as they are on disk."""
    done = json.loads(paths.done.read_text())
    for name, said in done["parts"].items():
        said["bytes"] = (paths.root / name).stat().st_size
    paths.done.write_text(json.dumps(done))
