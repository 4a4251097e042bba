"""The printed names of schemes, the same in every figure, table and page."""

from __future__ import annotations

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


def label_of(name: str) -> str:
    """The printed name of a scheme; an expression or an unknown name stands for itself."""
    return LABELS.get(name, name)
