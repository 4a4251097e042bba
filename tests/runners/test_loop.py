"""A student's training: complete directories, exact continuation, fair comparison."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from kdstats import data
from kdstats.errors import CheckError, UsageError
from kdstats.records.scanner import scan
from kdstats.records.writer import is_complete, read_done, verify_done
from kdstats.teacher.accuracy import Accuracy
from kdstats.teacher.load import load_network
from runners import recipes
from runners.run_spec import RunSpec
from runners.training.best import Best as _Best
from runners.training.loop import train_student
from runners.training.step import score


@pytest.fixture(scope="module")
def world():
    train, test = (data.load("digits", split) for split in ("train", "test"))
    teacher = load_network(None, None, train, torch.device("cpu"))
    spec = RunSpec(
        dataset="digits",
        data=None,
        dataset_sha256=train.digest,
        teacher="resnet8",
        teacher_weights=teacher.source,
        teacher_arch="resnet8",
        teacher_sha256=teacher.sha256,
        student="lenet8",
        scheme="cutmix",
        seed=0,
        recipe=recipes.get("digits").with_epochs(3),
    )
    # 330 images leave a short last batch of 10.
    return train.head(330), test.head(100), teacher, spec


def _train(world, study, spec, on_epoch=None):
    train, test, teacher, _ = world
    paths = spec.paths(study)
    return paths, train_student(spec, paths, train, test, teacher, on_epoch)


def _rows(paths, columns=None):
    batches = list(scan([paths], columns))
    return {name: np.concatenate([b[name] for b in batches]) for name in batches[0]}


def test_a_run_leaves_a_complete_directory(world, tmp_path):
    paths, outcome = _train(world, tmp_path, world[3])
    assert is_complete(paths)
    assert verify_done(paths) == []
    assert not paths.state.exists()
    done = read_done(paths)
    assert done["extra"]["outcome"] == outcome
    rows = _rows(paths)
    assert len(rows["sample_id"]) == 3 * 2 * 330
    lines = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert lines[-1]["test_loss"] == pytest.approx(outcome["test_loss_last"], abs=1e-12)
    assert outcome["acc_best"] == max(line["test_acc"] for line in lines)
    assert outcome["test_loss_best"] == min(line["test_loss"] for line in lines)
    assert np.isfinite(rows["ts_ce"]).all()


def test_the_parts_of_the_training_loss_are_those_of_the_rows(world, tmp_path):
    spec = world[3]
    paths, _ = _train(world, tmp_path, spec)
    rows = _rows(paths, ["epoch", "view", "s_loss_kd"])
    for line in map(json.loads, paths.metrics.read_text().splitlines()):
        here = rows["epoch"] == line["epoch"]
        original, view = (
            rows["s_loss_kd"][here & (rows["view"] == kind)].mean(dtype=float) for kind in (0, 1)
        )
        assert line["train_loss_kd"] == pytest.approx(original, rel=1e-5)
        assert line["train_loss_views"] == pytest.approx(view, rel=1e-5)
        weighed = spec.gamma * line["train_loss_ce"] + spec.alpha * (
            line["train_loss_kd"] + line["train_loss_views"]
        )
        assert line["train_loss"] == pytest.approx(weighed, rel=1e-6)


def test_every_image_is_seen_once_an_epoch_as_original(world, tmp_path):
    paths, _ = _train(world, tmp_path, replace(world[3], recipe=world[3].recipe.with_epochs(1)))
    rows = _rows(paths)
    seen = rows["sample_id"][rows["view"] == 0]
    assert sorted(seen) == sorted(world[0].sample_id.tolist())


class _Stop(Exception):
    pass


@pytest.mark.parametrize(
    ("scheme", "targets"),
    [
        ("cutmix", "teacher"),
        ("cutmix_pick_student", "teacher"),
        ("recursive_mix", "labels"),
        ("pick(mixup,n_pick=20)", "interpolated"),
    ],
)
def test_an_interrupted_run_continues_to_the_same_weights_and_rows(world, tmp_path, scheme, targets):
    spec = replace(world[3], scheme=scheme, targets=targets)
    whole, _ = _train(world, tmp_path / "whole", spec)

    def stop(epoch, epochs, line):
        if epoch == 2:
            raise _Stop

    with pytest.raises(_Stop):
        _train(world, tmp_path / "cut", spec, stop)
    again, _ = _train(world, tmp_path / "cut", spec)
    first, second = load_file(whole.last), load_file(again.last)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[k], second[k]) for k in first)
    a, b = _rows(whole), _rows(again)
    assert all(np.array_equal(a[k], b[k], equal_nan=a[k].dtype.kind == "f") for k in a)


def test_schemes_share_order_and_originals(world, tmp_path):
    one = replace(world[3], recipe=world[3].recipe.with_epochs(1))
    a, b = (_rows(_train(world, tmp_path, replace(one, scheme=s))[0]) for s in ("identity", "cutmix"))
    originals = a["view"] == 0
    assert np.array_equal(a["sample_id"][originals], b["sample_id"][b["view"] == 0])
    # The teacher's answer to an original depends on its standard augmentation alone.
    assert np.array_equal(a["t_ce"][originals], b["t_ce"][b["view"] == 0])


def test_seeds_differ(world, tmp_path):
    one = replace(world[3], recipe=world[3].recipe.with_epochs(1))
    a, b = (load_file(_train(world, tmp_path, replace(one, seed=s))[0].last) for s in (0, 1))
    assert any(not torch.equal(a[k], b[k]) for k in a)


def test_identity_views_cost_what_originals_cost(world, tmp_path):
    rows = _rows(_train(world, tmp_path, replace(world[3], scheme="identity"))[0])
    views = rows["view"] == 1
    assert np.array_equal(rows["t_entropy"][views], rows["t_entropy"][~views])


def test_scoring_leaves_batchnorm_alone(world):
    from kdstats import models

    student = models.build("lenet8", 10, 8, 1).train()
    before = {k: v.clone() for k, v in student.state_dict().items()}
    score(student, torch.randn(32, 1, 8, 8))
    assert student.training
    assert all(torch.equal(before[k], v) for k, v in student.state_dict().items())


def test_a_loss_that_is_not_finite_ends_the_run_and_says_where(world, tmp_path):
    recipe = replace(world[3].recipe, lr=1e25, warmup=0.0)
    spec = replace(world[3], recipe=recipe)
    with pytest.raises(CheckError, match="epoch"):
        _train(world, tmp_path, spec)
    assert not is_complete(spec.paths(tmp_path))


def test_a_last_batch_of_one_is_refused_for_mixing(world, tmp_path):
    train, test, teacher, spec = world
    with pytest.raises(UsageError, match="last batch"):
        train_student(spec, spec.paths(tmp_path), train.head(65), test, teacher)


def test_place_of_files_does_not_change_the_digest(world):
    spec = world[3]
    assert replace(spec, teacher_weights="elsewhere", data="there").digest == spec.digest
    assert replace(spec, alpha=0.8).digest != spec.digest
    assert replace(spec, scheme="mixup", seed=4).recipe_digest == spec.recipe_digest
    assert replace(spec, alpha=0.8).recipe_digest != spec.recipe_digest


def _cut_metrics(paths):
    paths.metrics.write_bytes(paths.metrics.read_bytes()[:-1])


def _cut_done(paths):
    paths.done.write_bytes(paths.done.read_bytes()[:100])


def _lose_samples(paths):
    paths.sample_part(2).unlink()


@pytest.mark.parametrize("damage", [_cut_metrics, _cut_done, _lose_samples])
def test_a_damaged_complete_run_is_trained_again(world, tmp_path, damage):
    paths, outcome = _train(world, tmp_path, world[3])
    weights = load_file(paths.last)
    damage(paths)
    assert not is_complete(paths)
    again, second = _train(world, tmp_path, world[3])
    assert verify_done(again) == []
    assert {k: v for k, v in second.items() if k != "seconds"} == {
        k: v for k, v in outcome.items() if k != "seconds"
    }
    assert all(torch.equal(weights[k], v) for k, v in load_file(again.last).items())
    assert len(_rows(again)["sample_id"]) == 3 * 2 * 330


def test_a_field_that_came_later_leaves_old_digests_alone(world):
    spec = world[3]
    assert "targets" not in spec.resolved()
    assert replace(spec, targets="labels").resolved()["targets"] == "labels"
    assert replace(spec, targets="labels").recipe_digest != spec.recipe_digest


def test_views_are_taught_what_the_targets_say(world, tmp_path):
    """The recorded loss of every view, against its own formula from the weights that the step began with."""
    from kdstats import models, schemes
    from kdstats.data.standard import StandardAugmentation
    from kdstats.draws.keys import epoch_order, view_generator

    train, _, teacher, spec = world
    one = replace(spec.recipe.with_epochs(1), batch_size=330)
    at = epoch_order(0, 0, 330)
    ids, labels = train.sample_id[at], train.labels[at]
    x = train.normalise(StandardAugmentation(train.base).apply(train.images[at], ids, 0, 0))
    torch.manual_seed(0)
    student = models.build("lenet8", 10, 8, 1).train()
    scheme = schemes.get("cutmix", space=schemes.PixelSpace(train.mean, train.std))
    view = scheme.apply(x, labels, ids, generator=view_generator(0, "batch", 0, 0))
    with torch.no_grad():
        student(x)
        log_s = student(view.images)
    t_o, t_v, lam = teacher.logits(x), teacher.logits(view.images), view.lam[:, None]
    onehot = torch.nn.functional.one_hot(labels, 10).float()

    def kl(logits):
        p = (logits / 4).softmax(1)
        return 16 * (p * ((logits / 4).log_softmax(1) - (log_s / 4).log_softmax(1))).sum(1)

    expected = {
        "teacher": kl(t_v),
        "interpolated": kl(lam * t_o + (1 - lam) * t_o[view.partner_index]),
        "labels": -((lam * onehot + (1 - lam) * onehot[view.partner_index]) * log_s.log_softmax(1)).sum(1),
    }
    weights = {}
    for targets, loss in expected.items():
        paths, _ = _train(world, tmp_path, replace(spec, recipe=one, targets=targets))
        rows = _rows(paths)
        order = np.argsort(ids.numpy())
        found = rows["s_loss_kd"][rows["view"] == 1]
        mine = rows["sample_id"][rows["view"] == 1]
        assert np.array_equal(np.sort(mine), np.sort(ids.numpy()))
        np.testing.assert_allclose(found[np.argsort(mine)], loss.numpy()[order], rtol=1e-4, atol=1e-5)
        weights[targets] = load_file(paths.last)["conv1.weight"]
    assert not torch.equal(weights["teacher"], weights["interpolated"])
    assert not torch.equal(weights["teacher"], weights["labels"])


def test_images_held_out_choose_the_epoch_and_the_test_images_tell_how_good_it_is(world, tmp_path):
    train, test, teacher, spec = world
    rest, held = train.divide(0.2)[1], train.divide(0.2)[0]
    spec = replace(
        spec, dataset_sha256=rest.digest, val_split=0.2, recipe=recipes.get("digits").with_epochs(5)
    )
    paths = spec.paths(tmp_path)
    outcome = train_student(spec, paths, rest, test, teacher, None, held)
    lines = [json.loads(line) for line in paths.metrics.read_text().splitlines()]
    by_acc = max(lines, key=lambda line: line["val_acc"])  # the first of equals, as in training
    by_loss = min(lines, key=lambda line: line["val_loss"])
    assert outcome["epoch_best"] == by_acc["epoch"]
    assert outcome["acc_best"] == by_acc["test_acc"]
    assert outcome["test_loss_best"] == by_loss["test_loss"]
    assert outcome["best_chosen_by"] == "validation images"
    assert any(line["val_acc"] != line["test_acc"] for line in lines)


def test_choosing_on_test_images_is_said(world, tmp_path):
    paths, outcome = _train(world, tmp_path, world[3])
    assert outcome["best_chosen_by"] == "test images"
    assert "val_acc" not in paths.metrics.read_text()


def test_a_part_of_the_data_is_another_run(world):
    spec = world[3]
    assert spec.digest == replace(spec, val_split=None).digest
    others = [replace(spec, **change) for change in ({"val_split": 0.1}, {"classes": "5"}, {"per_class": 9})]
    assert len({spec.digest, *(other.digest for other in others)}) == 4


def test_best_by_validation_even_where_the_test_images_disagree():
    best = _Best()
    # (test accuracy, test loss) and (validation accuracy, validation loss) of three epochs
    seen = [((0.5, 1.0), (0.6, 0.9)), ((0.9, 0.2), (0.6, 0.95)), ((0.4, 1.5), (0.7, 0.8))]
    kept = [
        best.see(n, Accuracy(a[1], a[0], 10), Accuracy(b[1], b[0], 10)) for n, (a, b) in enumerate(seen, 1)
    ]
    assert kept == [True, False, True]
    assert (best.accuracy, best.epoch, best.loss) == (0.4, 3, 1.5)
