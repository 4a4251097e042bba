"""Analyses that ask the networks: softened, hardened and unlike students are told apart, like ones are not."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import special
from settings_study import write_study

from analyses import calibration, feature_projection, robustness, smoothness
from analyses.inference import calibration_error as calibration_error_
from analyses.inference.calibration_error import calibration_error, equal_mass
from analyses.robustness import attacked, pgd, step
from analyses.study import Study, load_study
from analyses.study.networks import Answers
from kdstats import models
from kdstats.data import load
from kdstats.errors import CheckError, UsageError
from kdstats.provenance import sha256_file
from kdstats.records.paths import RunPaths
from kdstats.teacher.load import shipped_path

IMAGES = 100


def softened(head: dict[str, float]) -> Callable[[RunPaths, str, int], None]:
    """The shipped network as every student, its head scaled by scheme and a little by seed."""

    def after(run: RunPaths, scheme: str, seed: int) -> None:
        state = models.read_state_dict(shipped_path())
        model = models.build("resnet8", 10, 8, 1)
        model.load_state_dict(state)
        scale = head[scheme] * (1 + 0.01 * np.random.default_rng([seed, *scheme.encode()]).normal())
        with torch.no_grad():
            model.fc.weight.mul_(scale)
            model.fc.bias.mul_(scale)
        models.save_weights(model, run.last, {"arch": "resnet8", "dataset": "digits"})

    return after


def study_of(root: Path, head: dict[str, float], seeds: tuple[int, ...] = (0, 1), **teacher: Any) -> Study:
    weights = shipped_path()
    card = {"path": str(weights), "sha256": sha256_file(weights), "arch": "resnet8"} | teacher
    write_study(
        root,
        loss=lambda s, k: 0.5 + 0.01 * k,
        schemes=head,
        seeds=seeds,
        pair="resnet8/resnet8",
        teachers={"resnet8": card},
        after=softened(head),
    )
    return load_study(root, seed=0)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """mixup leaves students with a third of the logits, flip like identity."""
    return study_of(tmp_path_factory.mktemp("planted"), {"identity": 1.0, "flip": 1.0, "mixup": 0.3})


def told(findings: tuple[str, ...]) -> set[str]:
    """Schemes that a sentence puts beside identity, by whatever verb."""
    beside = " ".join(text for text in findings if "than identity" in text)
    return {scheme for scheme in ("flip", "mixup") if scheme in beside}


def test_smooth_students_are_found(planted: Study) -> None:
    result = smoothness.run(planted, IMAGES)
    said = " ".join(result.findings)
    assert "mixup leaves students smoother than identity: entropy differs by 0." in said
    assert told(result.findings) == {"mixup"}
    assert said.startswith("Teacher resnet8: mean entropy (nats) 0.0")
    table = result.table.set_index(["role", "scheme"])
    ratio = table.loc[("student", "mixup"), "logit_sd"] / table.loc[("student", "identity"), "logit_sd"]
    assert ratio == pytest.approx(0.3, rel=0.03)
    sums = result.histogram.groupby(["role", "scheme", "measure"])["share"].sum()
    assert sums.to_numpy() == pytest.approx(1)
    assert "students of 3 schemes" in result.figure()[1].caption()  # type: ignore[index]


def test_answers_by_hand() -> None:
    z = np.array([[2.0, 0.0, -1.0], [0.0, 0.0, 0.0], [800.0, 0.0, 0.0]])
    found = smoothness.of_answers(Answers(z, np.zeros(3, np.int64), None))
    p = special.softmax(z, axis=1)
    assert found["entropy"] == pytest.approx(special.entr(p).sum(axis=1), abs=1e-12)
    assert found["confidence"] == pytest.approx(p.max(axis=1))
    assert found["logit_sd"] == pytest.approx(np.std(z, axis=1, ddof=1))


def test_badly_calibrated_students_are_found(planted: Study) -> None:
    result = calibration.run(planted)
    said = " ".join(result.findings)
    assert "mixup leaves students worse calibrated than identity: ECE differs by 0." in said
    assert told(result.findings) == {"mixup"}
    own = result.table.set_index("scheme")
    assert own.loc["mixup", "overconfidence"] < -0.1
    bins = result.reliability[result.reliability["scheme"] == "mixup"]
    assert len(bins) == 15
    assert bins["n"].sum() == 2 * 517
    assert ((bins["low"] <= bins["accuracy"]) & (bins["accuracy"] <= bins["high"])).all()
    assert "517 test images in 15 bins" in result.figure()[1].caption()  # type: ignore[index]
    few = calibration.run(planted, 20)
    assert few.findings == (
        "This cannot be answered from this study because 20 test images are too few for 15 bins.",
    )


def test_calibration_error_by_hand() -> None:
    c, hit = np.repeat([0.62, 0.92], 50), np.r_[np.ones(20), np.zeros(30), np.ones(50)]
    found = calibration_error(c, hit, np.random.default_rng(0), bins=2)
    # Both confidences lie above ½, so in one bin of equal width; bins of equal mass keep them apart.
    assert found.ece == pytest.approx(abs((0.22 * 50 - 0.08 * 50) / 100))
    pairs = [
        np.mean([d[i] * d[j] for i in range(50) for j in range(50) if i != j])
        for d in ((c - hit)[:50], (c - hit)[50:])
    ]
    assert found.squared == pytest.approx(np.mean(pairs))
    assert found.overconfidence == pytest.approx(0.07)


def test_the_jackknife_deletes_each_image_in_turn() -> None:
    from analyses.inference.calibration_error import _debiased

    rng = np.random.default_rng(5)
    d, of = rng.normal(0.1, 0.4, 40), np.arange(40) % 3
    value, se = _debiased(d, of)
    each = np.array([_debiased(np.delete(d, i), np.delete(of, i))[0] for i in range(40)])
    assert se == pytest.approx(np.sqrt(39 / 40 * ((each - each.mean()) ** 2).sum()))
    assert value == pytest.approx(
        sum(
            (of == b).mean() * (d[of == b].mean() ** 2 - d[of == b].var(ddof=1) / (of == b).sum())
            for b in range(3)
        )
    )


def test_bad_confidences_are_named() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(CheckError, match="outside"):
        calibration_error(np.full(100, np.nan), np.ones(100), rng)
    with pytest.raises(CheckError, match="neither"):
        calibration_error(np.full(100, 0.5), np.full(100, 0.5), rng)
    with pytest.raises(UsageError, match="75 or more"):
        calibration_error(np.full(70, 0.5), np.ones(70), rng)
    with pytest.raises(UsageError, match="one length"):
        calibration_error(np.full(80, 0.5), np.ones(81), rng)
    sizes = np.bincount(equal_mass(np.full(100, 0.5), 15))
    assert sizes.max() - sizes.min() <= 1


@pytest.mark.simulation
def test_the_debiased_error_is_unbiased_and_its_interval_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration_error_, "SIMULATIONS", 200)
    rng, times, n = np.random.default_rng(8), 150, 600
    for shift in (0.0, 0.1):
        squares, held, calibrated = [], 0, 0
        for _ in range(times):
            c = rng.beta(4, 2, n)
            right = np.clip(c - shift, 0, 1)
            found = calibration_error(c, rng.random(n) < right, rng)
            squares.append(found.squared)
            truth = float(np.sqrt(((c - right) ** 2).mean()))
            low, high = found.rms_interval
            held += low <= truth <= high
            calibrated += found.p_calibrated >= 0.05
        error = np.std(squares) / np.sqrt(times)
        assert np.mean(squares) == pytest.approx(shift**2, abs=4 * error)
        assert held / times > 0.9
        if shift:
            assert calibrated < times / 3
        else:
            assert calibrated / times > 0.88


def test_attacks_on_a_linear_model_do_what_algebra_says() -> None:
    """Of two classes with margin m, an attack of ε takes ε ‖w‖₁, unless the image is at its range's end."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(6, 2)
    model = torch.nn.Sequential(torch.nn.Flatten(), linear)
    x = torch.rand(40, 1, 2, 3) * 0.6 + 0.2
    labels = torch.randint(0, 2, (40,))
    mean, sd = torch.full((1, 1, 1, 1), 0.3), torch.full((1, 1, 1, 1), 0.5)
    w = (linear.weight[1] - linear.weight[0]).detach() * (2.0 * labels[:, None] - 1)
    before = ((x.flatten(1) - 0.3) / 0.5 * w).sum(1)
    for bad in (
        step(model, x, x, labels, mean, sd, 0.1, 0.1),
        pgd(model, x, labels, mean, sd, 0.1, 20, torch.Generator().manual_seed(1)),
    ):
        after = ((bad.flatten(1) - 0.3) / 0.5 * w).sum(1)
        torch.testing.assert_close(before - after, 0.1 / 0.5 * w.abs().sum(1), rtol=1e-4, atol=1e-5)
        assert float((bad - x).abs().max()) <= 0.1 + 1e-6
    edge = step(model, torch.ones_like(x), torch.ones_like(x), labels, mean, sd, 0.1, 0.1)
    assert 0 <= float(edge.min()) <= float(edge.max()) <= 1


def test_robustness_of_like_students(tmp_path: Path) -> None:
    study = study_of(tmp_path / "a", {"identity": 1.0, "flip": 1.0})
    result = robustness.run(study, 24, (16 / 255, 64 / 255), steps=2)
    # A scaled head has the same decisions and the same gradient signs, so FGSM does the same to all.
    fgsm = result.table[result.table["attack"] == "fgsm"].pivot(
        index="epsilon", columns="scheme", values="accuracy"
    )
    assert fgsm["flip"].to_numpy() == pytest.approx(fgsm["identity"].to_numpy(), abs=0.02)
    by = result.table[result.table["scheme"] == "identity"].set_index(["attack", "epsilon"])["accuracy"]
    assert by[("none", 0.0)] > by[("fgsm", 16 / 255)] > by[("fgsm", 64 / 255)]
    assert by[("pgd", 64 / 255)] <= by[("fgsm", 64 / 255)] + 0.02
    said = " ".join(result.findings)
    assert "no scheme can be told from identity under PGD at ε = 64/255" in said
    assert "PGD (2 steps)" in result.figure()[1].caption()  # type: ignore[index]
    with pytest.raises(UsageError, match="radii in"):
        robustness.run(study, 10, (0.0,))


def test_attacks_repeat_themselves(planted: Study) -> None:
    images = load("digits", "test").head(30)
    model = models.build("resnet8", 10, 8, 1)
    models.load_weights(model, shipped_path())
    first, again = (list(attacked(model.eval(), images, (32 / 255,), 2, 4)) for _ in range(2))
    assert first == again
    assert [name for name, _, _ in first] == ["none", "fgsm", "pgd"]


def test_separation_and_axes_by_hand() -> None:
    labels = np.repeat([0, 1], 5)
    apart = np.c_[np.repeat([0.0, 4.0], 5), np.zeros(10)]
    assert feature_projection.separation(apart, labels) == pytest.approx(1)
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(4000, 3))
    assert feature_projection.separation(noise, np.arange(4000) % 2) < 0.005
    x = rng.normal(size=(50, 4)) * [1, 5, 0.1, 2]
    xy, explained = feature_projection.main_axes(x)
    values = np.linalg.eigvalsh(np.cov(x.T))[::-1]
    assert explained == pytest.approx(values[:2].sum() / values.sum())
    assert xy.var(axis=0, ddof=1) == pytest.approx(values[:2])
    assert feature_projection.main_axes(x[::-1])[0][::-1] == pytest.approx(xy)
    with pytest.raises(CheckError, match="the same for every image"):
        feature_projection.separation(np.ones((4, 2)), labels[:4])


def test_projection(planted: Study) -> None:
    result = feature_projection.run(planted, 100)
    said = " ".join(result.findings)
    # The head does not touch the features: no scheme differs.
    assert "no scheme can be told from identity by the separation of its classes" in said
    assert set(result.points["label"]) == {0, 1, 2}
    assert result.per_network["separation"].between(0.5, 1).all()
    figure, facts = result.figure()  # type: ignore[misc]
    assert len(figure.axes) == 4
    assert "teacher resnet8, identity, flip and mixup" in facts.caption()


def test_missing_weights_data_and_settings_are_said(tmp_path: Path) -> None:
    gone = str(tmp_path / "gone.safetensors")
    study = study_of(tmp_path / "a", {"identity": 1.0, "mixup": 1.0}, (0,), path=gone)
    next(r for r in study.paths.iter_runs() if "mixup" in str(r.root)).last.unlink()
    result = smoothness.run(study, 50)
    assert (
        "2 networks could not be asked, the first because: teacher resnet8: no teacher at"
        in result.findings[0]
    )
    assert set(result.per_network["role"]) == {"student"}
    other = study_of(tmp_path / "b", {"identity": 1.0}, (0,), sha256="00" * 32)
    assert "another sha256 than the study's card says" in smoothness.run(other, 50).findings[0]
    (other.paths.study_toml).write_text("no toml at all [")
    for analysis in (smoothness, calibration, robustness, feature_projection):
        found = analysis.run(other)  # type: ignore[attr-defined]
        assert "the networks cannot be asked" in found.findings[0]
        assert found.figure() is None
    shutil.rmtree(other.paths.run_root)
    assert "no run.json" in smoothness.run(other).findings[0]


def test_another_test_set_is_refused(planted: Study) -> None:
    from analyses.study.networks import images_tested
    from analyses.study.settings import trained_runs

    run = trained_runs(planted)[0]
    card = SimpleNamespace(dataset={"test": 10_000})
    wrong = SimpleNamespace(card=card, paths=planted.paths)
    with pytest.raises(CheckError, match="517 test images, the study was tested on 10000"):
        images_tested(wrong, run, None)  # type: ignore[arg-type]
