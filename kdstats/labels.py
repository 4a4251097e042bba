"""The printed names of schemes, the same in every figure, table and page."""

from __future__ import annotations

import re

LABELS = {
    "identity": "Identity",
    "same": "Same",
    "flip": "Flip",
    "crop": "Crop",
    "crop_flip": "Crop+Flip",
    "cutout": "Cutout",
    "random_erasing": "RandomErasing",
    "masking": "Masking",
    "autoaugment": "AutoAugment",
    "randaugment": "RandAugment",
    "trivialaugment": "TrivialAugment",
    "augmix": "AugMix",
    "color_jitter": "ColorJitter",
    "grayscale": "Grayscale",
    "gaussian_blur": "GaussianBlur",
    "mixup": "Mixup",
    "full_mixup": "Mixup (full)",
    "partial_mixup": "Mixup (partial)",
    "cutmix": "CutMix",
    "patchmix": "PatchMix",
    "recursive_mix": "RecursiveMix",
    "cutmix_pick_teacher": "CutMixPick (T)",
    "cutmix_pick_student": "CutMixPick (S)",
    "cutmix_pick_kl": "CutMixPick (KL)",
    "cutmix_pick_dissimilarity": "CutMixPick (dis.)",
}


_NAME = re.compile(r"(?<![\w@=.])[a-z_]\w*(?![\w=])")


def label_of(name: str) -> str:
    """The printed name of a scheme; in an expression every name is replaced by its own, an unknown one stays.

    ``pick(mixup,runs=3)`` becomes ``pick(Mixup, runs=3)``, ``crop_flip+cutout`` becomes ``Crop+Flip + Cutout``.
    """
    if name in LABELS:
        return LABELS[name]
    spaced = re.sub(r",(?![^()]*\)\s*\))", ", ", name).replace("+", " + ")
    return _NAME.sub(lambda found: LABELS.get(found[0], found[0]), spaced)
