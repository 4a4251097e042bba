"""Name → scheme. One record per scheme; families are imported when one of their members is asked for."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import Any

from kdstats.errors import UsageError, unknown
from kdstats.schemes.scheme import Scheme
from kdstats.schemes.space import PixelSpace


@dataclass(frozen=True)
class SchemeRecord:
    """What the registry knows of a scheme.

    Attributes:
        name: Registry name.
        family: What kind of change it makes.
        target: ``module:Class`` that implements it.
        params: Arguments that make the name's default.
        needs: Networks it must be given.
        reference: Where it was published.
        label: Short name for axes and tables, as in the papers' figures.
        picks: Name of the base scheme, for picking schemes.
    """

    name: str
    family: str
    target: str
    reference: str
    label: str
    params: dict[str, Any] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    picks: str = ""


_WANG = "Wang et al., NeurIPS 2022"
_RECORDS = {
    record.name: record
    for record in (
        SchemeRecord("identity", "none", "geometric:Identity", _WANG, "Identity"),
        SchemeRecord("flip", "geometric", "geometric:CropFlip", _WANG, "Flip", {"crop": False, "flip": True}),
        SchemeRecord("crop", "geometric", "geometric:CropFlip", _WANG, "Crop", {"crop": True, "flip": False}),
        SchemeRecord(
            "crop_flip", "geometric", "geometric:CropFlip", _WANG, "Crop+Flip", {"crop": True, "flip": True}
        ),
        SchemeRecord("cutout", "erasing", "erasing:Cutout", "DeVries & Taylor 2017", "Cutout"),
        SchemeRecord("autoaugment", "policy", "policy:AutoAugment", "Cubuk et al., CVPR 2019", "AutoAugment"),
        SchemeRecord("mixup", "mixing", "mixing:Mixup", "Zhang et al., ICLR 2018", "Mixup"),
        SchemeRecord("cutmix", "mixing", "mixing:CutMix", "Yun et al., ICCV 2019", "CutMix"),
        *(
            SchemeRecord(
                f"cutmix_pick_{criterion}",
                "picking",
                "picking:Pick",
                _WANG,
                f"CutMixPick ({short})",
                {"criterion": criterion},
                needs,
                "cutmix",
            )
            for criterion, short, needs in (
                ("student", "S", frozenset({"student"})),
                ("teacher", "T", frozenset({"teacher"})),
                ("kl", "KL", frozenset({"teacher", "student"})),
                ("dissimilarity", "dis.", frozenset({"teacher"})),
            )
        ),
    )
}
_ALIASES = {
    "flip_crop": "crop_flip",
    "crop+flip": "crop_flip",
    "flip+crop": "crop_flip",
    "cropflip": "crop_flip",
    "aa": "autoaugment",
    "autoaugment_cifar10": "autoaugment",
    "cutmixpick_s": "cutmix_pick_student",
    "cutmixpick_t": "cutmix_pick_teacher",
    "cutmixpick_kl": "cutmix_pick_kl",
    "none": "identity",
}
PUBLISHED_NINE = (
    "identity",
    "flip",
    "crop_flip",
    "cutout",
    "autoaugment",
    "mixup",
    "cutmix",
    "cutmix_pick_student",
    "cutmix_pick_teacher",
)


def names() -> list[str]:
    """All registered names."""
    return list(_RECORDS)


def record(name: str) -> SchemeRecord:
    """The record behind a name or alias; hyphens count as underscores, case does not matter.

    Raises:
        UsageError: No such scheme; the message holds the nearest names.
    """
    key = name.strip().lower().replace("-", "_")
    key = _ALIASES.get(key, key)
    if key not in _RECORDS:
        raise unknown("scheme", key, _RECORDS, f"`kdstats schemes list` shows all {len(_RECORDS)}.")
    return _RECORDS[key]


def get(name: str, *, draws: str = "batch", space: PixelSpace | None = None, **params: Any) -> Scheme:
    """A scheme by name.

    Args:
        name: See :func:`names`; aliases and hyphens are accepted.
        draws: ``batch`` or ``sample``.
        space: Normalisation of the images; needed where a scheme thinks in grey levels (crop, AutoAugment).
        params: Parameters of the scheme, for example ``alpha=0.2``; for a picking scheme those of the base
            scheme and ``runs``, ``tau``.

    Raises:
        UsageError: Unknown name, granularity or parameter.
    """
    found = record(name)
    module, _, cls = found.target.partition(":")
    factory = getattr(importlib.import_module(f"kdstats.schemes.{module}"), cls)
    try:
        if found.picks:
            own = {k: params.pop(k) for k in ("runs", "tau") if k in params}
            base = get(found.picks, draws=draws, space=space, **params)
            scheme: Scheme = factory(found.name, base, **found.params, **own)
        else:
            scheme = factory(found.name, draws, space, **{**found.params, **params})
    except TypeError as error:
        raise UsageError(f"{found.name}: {str(error).partition('() ')[2] or error}") from None
    return scheme
