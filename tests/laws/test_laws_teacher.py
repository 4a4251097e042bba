"""Laws that hold for every teacher, or exactly for a linear one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from kdstats import data, schemes, t_stddev
from kdstats.data.standard import StandardAugmentation
from kdstats.draws.keys import generator
from kdstats.teacher.network import Network
from kdstats.teacher.probe import Probe


class LinearProbabilities(torch.nn.Module):
    """Class probabilities that are linear in the image; ``forward`` gives their logarithms."""

    def __init__(self, classes: int, pixels: int, dtype: torch.dtype) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(0)
        weight = torch.rand(classes, pixels, generator=g, dtype=torch.float64) + 0.1
        self.weight = (weight / weight.sum(0)).to(dtype)

    def probabilities(self, images: torch.Tensor) -> torch.Tensor:
        """``[B, C]``; vectors of probability for images that sum to one, and linear in any image."""
        return images.flatten(1) @ self.weight.T

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.probabilities(images).log()


def images(n: int, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    """Positive images that sum to one each."""
    g = torch.Generator().manual_seed(seed)
    x = torch.rand(n, 1, 8, 8, generator=g, dtype=torch.float64) + 0.05
    return (x / x.sum((1, 2, 3), keepdim=True)).to(dtype)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-6)])
def test_batch_draw_mixing_leaves_a_linear_teachers_mean_unchanged(name, dtype, tolerance):
    teacher, scheme = LinearProbabilities(10, 64, dtype), schemes.get(name)
    for step in range(20):
        x = images(17, dtype, step)
        view = scheme.apply(x, generator=generator(0, step))
        mean_o, mean_v = teacher.probabilities(x).mean(0), teacher.probabilities(view.images).mean(0)
        assert float((mean_o - mean_v).abs().max()) <= tolerance
        assert not torch.equal(view.images, x) or float(view.lam.min()) == 1


def test_sample_draws_and_single_views_do_change_it():
    teacher = LinearProbabilities(10, 64, torch.float64)
    x = images(17, torch.float64)
    base = teacher.probabilities(x).mean(0)
    for scheme in (
        schemes.get("mixup", draws="sample"),
        schemes.get("cutmix", draws="sample"),
        schemes.get("cutout"),
    ):
        view = scheme.apply(x, generator=generator(0, 1))
        assert float((teacher.probabilities(view.images).mean(0) - base).abs().max()) > 1e-6


class Softened(torch.nn.Module):
    """Linear probabilities of normalised digits: affine in the pixels, positive, summing to one."""

    def __init__(self) -> None:
        super().__init__()
        g = torch.Generator().manual_seed(3)
        weight = torch.randn(10, 64, generator=g)
        self.weight = (weight - weight.mean(0)) * 5e-4

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (0.1 + x.flatten(1) @ self.weight.T).log()


def probe(scheme_names: list[str], model: torch.nn.Module, draws: str = "batch", steps: int = 30) -> Probe:
    train = data.load("digits")
    space = schemes.PixelSpace(train.mean, train.std)
    running = {name: schemes.get(name, draws=draws, space=space) for name in scheme_names}
    network = Network(model.eval(), "law", "law", "", "law")
    made = Probe(train, running, network, None, StandardAugmentation("crop1"), 64, seed=1)
    batches = made.batches(drop_last=True)
    for _ in range(steps):
        made.step(*next(batches))
    return made


def test_t_stddev_of_a_linear_teacher_is_the_same_under_batch_mixing():
    found = probe(["identity", "mixup", "cutmix", "cutout"], Softened())
    originals = np.stack(found.means)
    value = {name: t_stddev(0.5 * (originals + np.stack(t.means))).value for name, t in found.tallies.items()}
    assert value["mixup"] == pytest.approx(value["identity"], rel=1e-4)
    assert value["cutmix"] == pytest.approx(value["identity"], rel=1e-4)
    np.testing.assert_allclose(np.stack(found.tallies["mixup"].means), originals, atol=1e-6)
    np.testing.assert_allclose(np.stack(found.tallies["cutmix"].means), originals, atol=1e-6)
    assert abs(value["cutout"] / value["identity"] - 1) > 1e-3
    by_sample = probe(["mixup"], Softened(), "sample")
    assert np.abs(np.stack(by_sample.tallies["mixup"].means) - np.stack(by_sample.means)).max() > 1e-5


def test_identity_law():
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.full(10, 0.2), size=(40, 320))
    alone = t_stddev(p.mean(1))
    doubled = t_stddev(np.concatenate([p, p], axis=1).mean(1))
    assert doubled.value == pytest.approx(alone.value, rel=1e-12)
    found = probe(["identity"], Softened())
    assert np.array_equal(np.stack(found.tallies["identity"].means), np.stack(found.means))
    assert found.tallies["identity"].forwards == 0


def test_equal_images_are_the_worst_case():
    rng = np.random.default_rng(1)
    p = rng.dirichlet(np.full(10, 0.2), size=(200, 64))
    assert t_stddev(p[:, 0]).value == pytest.approx(t_stddev(p.mean(1)).value * 8, rel=0.1)


def test_identities_of_the_published_v2():
    """``check_ce_var_v2``: mean(cov1) is the class variance of the batch mean, mean(cov2) is nothing but rounding."""
    rng = np.random.default_rng(2)
    p = rng.dirichlet(np.full(20, 0.3), size=128)
    cov1, cov2 = np.cov(p), np.cov(p, rowvar=False)
    assert cov1.shape == (128, 128)
    assert cov2.shape == (20, 20)
    mean = p.mean(0)
    assert cov1.mean() == pytest.approx(mean.var(ddof=1), rel=1e-10)
    assert cov1.mean() == pytest.approx(np.sum((mean - 1 / 20) ** 2) / 19, rel=1e-10)
    assert abs(cov2.mean()) < 1e-15
    assert np.abs(cov2).mean() > 1e-4


def test_v2_and_t_stddev_of_one_batch_tell_the_same_story():
    rng = np.random.default_rng(4)
    batches = rng.multinomial(1, np.full(25, 0.04), size=(400, 128)).astype(float)
    v2 = np.mean([np.cov(b).mean() for b in batches])
    assert np.sqrt(v2 * 24 / 25) == pytest.approx(t_stddev(batches.mean(1)).value, rel=0.02)
