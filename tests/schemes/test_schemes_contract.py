"""What every scheme promises, over the whole registry; and that the check of it notices schemes that do not."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from kdstats import schemes
from kdstats.draws.keys import generator
from kdstats.errors import CheckError, UsageError
from kdstats.schemes import AugmentedBatch, PixelSpace, Scheme, checks
from kdstats.schemes.checks import Situation, check, violations
from kdstats.schemes.controls import Identity
from kdstats.schemes.geometric import CropFlip
from kdstats.schemes.mixing.cutmix import CutMix
from kdstats.schemes.naming.presets import PRESETS
from kdstats.schemes.naming.resolve import keywords

DRAWS = ("batch", "sample")
# Expressions that stand for what can be built beyond the names.
BUILT = (
    "pick(mixup)",
    "pick(flip,criterion=kl,runs=3)",
    "pick(crop_flip+cutmix)",
    "crop_flip+cutout",
    "crop_flip+cutmix",
    "flip+pick(cutmix)",
    "same+cutmix",
    "cutmix(p=0.5)",
    "autoaugment(p=0.5)",
    "cutmix(box=corners)",
    "cutmix(box=inside)",
    "mixup(partner=derangement)",
    "partial_mixup(sampling=with_replacement)",
    "recursive_mix(resize=bilinear)",
    "crop_flip(quantise=round)",
    "autoaugment(policy=imagenet)",
)
SITUATIONS = (
    (1, 8, 8, 5, torch.float32),
    (3, 9, 9, 7, torch.bfloat16),
    (1, 32, 32, 2, torch.bfloat16),
    (3, 24, 40, 6, torch.float32),
    (3, 64, 64, 3, torch.float32),
)


@pytest.mark.parametrize("situation", SITUATIONS, ids=str)
@pytest.mark.parametrize(("name", "draws"), list(itertools.product((*schemes.names(), *BUILT), DRAWS)))
def test_contract(name, draws, situation):
    assert violations(name, Situation(draws, *situation)) == []


@pytest.mark.parametrize("draws", DRAWS)
@pytest.mark.parametrize("name", schemes.names())
def test_large_images(name, draws):
    assert violations(name, Situation(draws, 3, 224, 224, 2)) == []


@pytest.mark.parametrize(
    ("name", "preset"), [(name, preset) for preset, found in PRESETS.items() for name in found.schemes]
)
def test_presets_keep_the_contract(name, preset):
    scheme = f"{name}@{preset}"
    draws = PRESETS[preset].draws
    assert schemes.get(scheme).draws == draws
    assert violations(scheme, Situation(draws)) == []
    other = next(d for d in DRAWS if d != draws)
    with pytest.raises(UsageError, match=f"draws once per {draws}; add draws={draws}"):
        schemes.get(scheme, draws=other)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU on this machine")
def test_contract_on_a_gpu():
    wrong = {
        (name, draws): violations(name, Situation(draws, device="cuda"))
        for name, draws in itertools.product((*schemes.names(), *BUILT), DRAWS)
    }
    assert {key: said for key, said in wrong.items() if said} == {}


@pytest.mark.timeout(30)
@pytest.mark.parametrize(("name", "draws"), list(itertools.product(schemes.names(), DRAWS)))
def test_batch_of_one_works_or_says_so(name, draws):
    alone = Situation(draws, n=1)
    if alone.scheme(name).least > 1:
        with pytest.raises(UsageError, match="at least 2 images, not 1"):
            violations(name, alone)
    else:
        assert violations(name, alone) == []


@pytest.mark.parametrize(("name", "draws"), list(itertools.product(schemes.names(), DRAWS)))
def test_another_key_gives_other_views(name, draws):
    views = []
    for key in range(12):
        scheme, situation = Situation(draws).scheme(name), Situation(draws)
        for step in range(2):
            x = situation.images(step)
            found = scheme.apply(
                x, generator=generator(key, step), teacher=checks._network(1), student=checks._network(2)
            )
        views.append(found.images)
    different = sum(not torch.equal(views[0], v) for v in views[1:])
    assert different == 0 if name in ("identity", "same") else different >= 1


@pytest.mark.parametrize("name", [n for n in schemes.names() if not Situation().scheme(n).needs])
def test_probability_zero_is_identity_and_one_is_the_scheme(name):
    scheme = Situation().scheme(name)
    if scheme.history:
        with pytest.raises(UsageError, match="only sometimes is not defined"):
            schemes.get(name, p=0)
        return
    for draws in DRAWS:
        situation = Situation(draws)
        x, ids = situation.images(0), situation.ids(0)
        never = situation.scheme(f"{name}(p=0)").apply(x, None, ids, generator=generator(1))
        assert torch.equal(never.images, x)
        assert (never.lam == 1).all()
        assert torch.equal(never.partner_id, ids)
        assert torch.equal(never.sample_id, ids)
        always = situation.scheme(f"{name}(p=1)").apply(x, None, ids, generator=generator(1))
        if "p" in keywords(type(scheme)):
            continue  # a probability of its own, whose default is another
        assert torch.equal(
            always.images, situation.scheme(name).apply(x, None, ids, generator=generator(1)).images
        )


class WritesToInput(Identity):
    def _render(self, images: Tensor, draw: Any) -> Tensor:
        images[0] = 0
        return images.clone()


class Forgets(CropFlip):
    """Its views hang on a generator of its own, so neither replay nor the key give them again."""

    def _render(self, images: Tensor, draw: Any) -> Tensor:
        return images + torch.rand(())


class WrongLambda(CutMix):
    def _pairing(self, images: Tensor, draw: Any) -> tuple[Tensor, Tensor, Tensor]:
        index, partner, lam = super()._pairing(images, draw)
        return index, partner, 0.5 * lam


class WrongPartner(CutMix):
    def _pairing(self, images: Tensor, draw: Any) -> tuple[Tensor, Tensor, Tensor]:
        index, partner, lam = super()._pairing(images, draw)
        return index, partner.roll(1), lam


class ByPosition(CropFlip):
    """Draws "per sample" from positions instead of ids."""

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Any:
        return super()._draw(images, torch.arange(len(images)), gen)


class BySize(CropFlip):
    """Draws "per sample" that hang on how many images there are."""

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Any:
        return super()._draw(images, sample_id + len(images), gen)


class DoubleLambda(CutMix):
    def apply(self, *args: Any, **kwargs: Any) -> AugmentedBatch:
        batch = super().apply(*args, **kwargs)
        return replace(batch, lam=batch.lam.double())


class OneIdShort(CutMix):
    def apply(self, *args: Any, **kwargs: Any) -> AugmentedBatch:
        batch = super().apply(*args, **kwargs)
        return replace(batch, lam=batch.lam[1:])


class OtherPartnerId(CutMix):
    def apply(self, *args: Any, **kwargs: Any) -> AugmentedBatch:
        batch = super().apply(*args, **kwargs)
        return replace(batch, partner_id=batch.partner_id.roll(1))


class HiddenParameter(Identity):
    def __init__(
        self, name: str, draws: str = "batch", space: PixelSpace | None = None, *, depth: int = 1
    ) -> None:
        super().__init__(name, draws, space)


class OtherDtype(Identity):
    def _render(self, images: Tensor, draw: Any) -> Tensor:
        return images.double()


class Infinite(Identity):
    def _render(self, images: Tensor, draw: Any) -> Tensor:
        return images / 0


class MixesUnsaid(CutMix):
    mixes = False


class LooksAround(Identity):
    """Every view is centred by the mean of its batch."""

    def _render(self, images: Tensor, draw: Any) -> Tensor:
        return images - images.mean(0, keepdim=True)


class ScaledByBatch(Identity):
    """Every view is divided by the size of its batch's pixels, which is even in them."""

    def _render(self, images: Tensor, draw: Any) -> Tensor:
        return images / images.square().mean().sqrt()


class DrawsByPixels(CutMix):
    """The darkest image is everybody's partner."""

    def _draw(self, images: Tensor, sample_id: Tensor, gen: torch.Generator) -> Any:
        draw = super()._draw(images, sample_id, gen)
        darkest = images.float().mean((1, 2, 3)).argmin().cpu()
        return replace(draw, params={**draw.params, "partner": darkest.expand(len(images))})


class WrongIds(CutMix):
    def apply(self, *args: Any, **kwargs: Any) -> AugmentedBatch:
        batch = super().apply(*args, **kwargs)
        return replace(batch, sample_id=batch.sample_id + 1, labels=batch.labels * 0 - 1)


@pytest.mark.parametrize(
    ("cls", "params", "said"),
    [
        (WritesToInput, {}, "the input was written to"),
        (Forgets, {}, "replaying the draw gives other views"),
        (Forgets, {}, "the same key gave other views"),
        (WrongLambda, {}, "λ is not the share"),
        (WrongPartner, {}, "λ is not the share"),
        (ByPosition, {}, "the order of the batch changed the views"),
        (BySize, {}, "the size of the batch changed the views"),
        (OtherDtype, {}, "views are torch.float64"),
        (Infinite, {}, "NaN or infinity"),
        (MixesUnsaid, {}, "says that it mixes nothing"),
        (WrongIds, {}, "sample_id is not the id"),
        (WrongIds, {}, "labels are not those"),
        (DoubleLambda, {}, "λ is not a float32 in 0…1"),
        (OneIdShort, {}, "are not one per view"),
        (OtherPartnerId, {}, "partner_id is not the id"),
        (HiddenParameter, {}, "the parameter depth is not kept"),
        (LooksAround, {}, "depends on an image that is neither its base nor its partner"),
        (ScaledByBatch, {}, "depends on an image that is neither its base nor its partner"),
        (DrawsByPixels, {}, "the pixels of an image changed what was drawn"),
    ],
)
def test_the_check_notices(cls, params, said, monkeypatch):
    class Broken(Situation):
        def scheme(self, name: str) -> Scheme:
            half = (0.5,) * self.channels
            made: Scheme = cls("broken", self.draws, PixelSpace(half, half), **params)
            return made

    monkeypatch.setattr(checks, "record", lambda name: schemes.record("cutmix"))
    found = [text for draws in DRAWS for text in violations("broken", Broken(draws))]
    assert any(said in text for text in found), found


@pytest.mark.parametrize("name", [*schemes.names(), *BUILT])
def test_shares_are_those_of_the_views_or_of_all_that_they_are_picked_from(name):
    situation = Situation()
    scheme, x, ids = situation.scheme(name), situation.images(0), situation.ids(0)
    picks, history = "pick" in name, name.startswith("recursive_mix")
    assert scheme.blind is not (picks or history)
    assert scheme.shares_by_draw is (scheme.mixes and not history)
    if not scheme.shares_by_draw:
        with pytest.raises(UsageError, match="there is no law of it"):
            scheme.draw_shares(x, generator=generator(3))
        return
    views = scheme.apply(
        x, None, ids, generator=generator(3), teacher=checks._network(1), student=checks._network(2)
    )
    blank = torch.zeros(()).expand(x.shape)
    drawn = scheme.draw_shares(blank, generator=generator(3)).float()
    assert torch.equal(scheme.shares(x, views.draw).float(), drawn)
    if picks:
        assert len(drawn) == situation.n * 2
        assert set(views.lam.tolist()) <= set(drawn.tolist())
    else:
        assert torch.equal(drawn, views.lam)


class OwnMaking(Identity):
    """Looks at pixels before it decides, without a network."""

    def _make(self, images: Tensor, ids: Tensor, gen: torch.Generator, networks: Any) -> Any:
        return super()._make(images, ids, gen, networks)


def test_a_scheme_that_makes_its_views_in_a_way_of_its_own_is_not_taken_as_blind():
    assert not OwnMaking("own").blind
    assert Identity("x").blind


class Raises(Identity):
    def _render(self, images: Tensor, draw: Any) -> Tensor:
        raise UsageError("no such luck")


def test_an_error_is_a_broken_promise_and_no_excuse(monkeypatch):
    monkeypatch.setattr(checks.Situation, "scheme", lambda self, name: Raises("x", self.draws))
    (found,) = check("x", [Situation()])
    assert found.broken == ("it raised UsageError: no such luck",)
    assert found.not_applicable == ""


@pytest.mark.parametrize("lam", [-0.1, 1.5, float("nan")])
def test_a_share_outside_0_and_1_is_no_share(lam):
    class Outside(CutMix):
        def _pairing(self, images: Tensor, draw: Any) -> tuple[Tensor, Tensor, Tensor]:
            index, partner, _ = super()._pairing(images, draw)
            return index, partner, torch.full((len(images),), lam)

    with pytest.raises(CheckError, match="states λ outside 0…1"):
        Outside("outside").apply(Situation().images(0), generator=generator(0))


def test_check_says_where_a_scheme_has_no_meaning():
    found = check("cutmix", [Situation(), Situation(n=1)])
    assert [f.text() for f in found] == [
        "keeps all promises",
        "(cutmix needs a batch of at least 2 images, not 1)",
    ]
    assert str(found[0].situation) == "draws batch, 6 images 3x32x32, float32"
    (other,) = check("cutmix@clovaai", [Situation("sample")])
    assert "draws once per batch" in other.not_applicable


def test_mixed_targets_by_hand():
    situation = Situation("sample")
    found = situation.scheme("cutmix").apply(situation.images(0), torch.arange(6), generator=generator(7))
    onehot = torch.nn.functional.one_hot(torch.arange(6))
    mixed = found.mix(onehot)  # int64, as one_hot gives it
    assert torch.allclose(mixed, found.mix(onehot.double()).float())
    for i in range(6):
        expected = torch.zeros(6)
        expected[found.labels[i]] += found.lam[i]
        expected[found.partner_labels[i]] += 1 - found.lam[i]
        assert torch.allclose(mixed[i], expected)
    assert 0 < float(found.lam.min()) < 1
    grid = torch.rand(6, 2, 3, dtype=torch.float64)
    assert found.mix(grid).dtype == torch.float64
    lam = found.lam[2].double()
    assert torch.allclose(found.mix(grid)[2], lam * grid[2] + (1 - lam) * grid[found.partner_index[2]])


def test_what_is_refused():
    situation = Situation()
    scheme, x = situation.scheme("cutmix"), situation.images(0)

    def run(images: Tensor, labels: Tensor | None = None, ids: Tensor | None = None) -> None:
        scheme.apply(images, labels, ids, generator=generator(0))

    with pytest.raises(UsageError, match="normalised floats.*uint8"):
        run(x.to(torch.uint8))
    with pytest.raises(UsageError, match="normalised floats"):
        run(x[0])
    with pytest.raises(UsageError, match="6 images, but labels of shape"):
        run(x, labels=torch.arange(3))
    with pytest.raises(UsageError, match="6 images, but sample ids of shape"):
        run(x, ids=torch.arange(5))
    with pytest.raises(UsageError, match="3 channels, the images 1"):
        run(x[:, :1])
    with pytest.raises(UsageError, match="a draw of flip cannot be replayed by cutmix"):
        scheme.replay(x, situation.scheme("flip").apply(x, generator=generator(0)).draw)
    nets = {"teacher": checks._network(1), "student": checks._network(2)}
    for name in schemes.names():
        for role in schemes.record(name).needs:
            with pytest.raises(UsageError, match=f"given no {role}"):
                situation.scheme(name).apply(x, generator=generator(0), **{**nets, role: None})


def test_records_say_what_their_schemes_are():
    for name in (*schemes.names(), *BUILT):
        scheme, record = Situation().scheme(name), schemes.record(name)
        assert (scheme.needs, scheme.mixes, scheme.history) == (record.needs, record.mixes, record.history), (
            name
        )
        assert scheme.name == record.name == name
        assert name in ("identity", "same") or scheme.rules(), name
