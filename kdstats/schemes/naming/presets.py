"""Presets, written ``scheme@preset``: the parameters under which a published code runs a scheme."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Preset:
    """One published code.

    Attributes:
        reference: The code and its paper.
        schemes: Scheme → parameters that differ from kdstats' defaults.
        draws: Granularity of draws in that code.
    """

    reference: str
    schemes: dict[str, dict[str, Any]] = field(default_factory=dict)
    draws: str = "batch"


_TRUNCATED = {"quantise": "truncate"}
_PICK = {"runs": 2, "n_pick": 64}
PRESETS = {
    "wang2022": Preset(
        "Good-DA-in-KD (Wang et al., NeurIPS 2022)",
        {
            "identity": {},
            "same": {},
            "flip": _TRUNCATED,
            "crop": _TRUNCATED,
            "crop_flip": _TRUNCATED,
            "cutout": {},
            "masking": {},
            "autoaugment": _TRUNCATED,
            "mixup": {},
            "cutmix": {},
            "patchmix": {},
            "cutmix_pick_teacher": _PICK,
            "cutmix_pick_student": _PICK,
            "cutmix_pick_kl": _PICK,
            "cutmix_pick_dissimilarity": _PICK,
        },
    ),
    "clovaai": Preset(
        "CutMix-PyTorch (Yun et al., ICCV 2019), its CIFAR setting; its ImageNet setting is cutmix@clovaai(p=1)",
        {"cutmix": {"partner": "permutation", "p": 0.5}},
    ),
    "timm": Preset(
        "timm's Mixup class in its batch mode",
        {"cutmix": {"partner": "reverse"}, "mixup": {"partner": "reverse"}},
    ),
    "torchvision": Preset(
        "torchvision.transforms.v2 CutMix and MixUp",
        {"cutmix": {"partner": "roll", "box": "clipped_half"}, "mixup": {"partner": "roll"}},
    ),
    "mixkd": Preset(
        "MIX-KD (Choi et al., WACV 2023)",
        {"full_mixup": {}, "partial_mixup": {"sampling": "with_replacement"}},
        draws="sample",
    ),
    "recursivemix": Preset("RecursiveMix (Yang et al., NeurIPS 2022)", {"recursive_mix": {}}),
    "dualteacher": Preset(
        "Dual Teacher (Na et al., NeurIPS 2023); CutMix of whole classification images",
        {"cutmix": {"alpha": 4.0, "partner": "permutation", "centres": "image", "centre_from": 0.125}},
    ),
}


def presets_of(name: str) -> list[str]:
    """Presets that know the scheme ``name``."""
    return [preset for preset, found in PRESETS.items() if name in found.schemes]
