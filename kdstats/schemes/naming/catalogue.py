"""The built-in schemes: one record each, with family, class, reference. Data only."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kdstats.labels import label_of


@dataclass(frozen=True)
class SchemeRecord:
    """What the registry knows of a scheme.

    Attributes:
        name: Registry name, or the whole expression.
        family: What kind of change it makes.
        target: ``module:Class`` that implements it; modules without a dot lie in this package.
        reference: Where it was published.
        params: Arguments that make the name's default.
        needs: Networks it must be given.
        picks: Name of the base scheme, for picking schemes.
        mixes: Whether a view is made of two images.
        history: Whether views depend on the batches before.
        per_image: Whether its publication draws once per image; the others once per batch, as Good-DA-in-KD does.
        source: The distribution that a plug-in comes from; empty for built-in schemes.
        label: Short name for axes and tables, as in the papers' figures.
    """

    name: str
    family: str
    target: str
    reference: str
    params: dict[str, Any] = field(default_factory=dict)
    needs: frozenset[str] = frozenset()
    picks: str = ""
    mixes: bool = False
    history: bool = False
    per_image: bool = False
    source: str = ""
    label: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "label", self.label or label_of(self.name))

    @property
    def targets(self) -> tuple[str, ...]:
        """Kinds of targets that differ: where nothing is mixed, only the teacher's own answer is one of the view."""
        return ("teacher", "interpolated", "labels") if self.mixes else ("teacher",)


GRANULARITIES = ("batch", "sample")
_WANG = "Wang et al., NeurIPS 2022"
_MIXKD = "Choi et al., WACV 2023 (MIX-KD)"
_DUAL = "Na et al., NeurIPS 2023 (Dual Teacher)"
CRITERIA_NEEDS = {
    "teacher": frozenset({"teacher"}),
    "student": frozenset({"student"}),
    "kl": frozenset({"teacher", "student"}),
    "dissimilarity": frozenset({"teacher"}),
}
BUILT_IN = {
    record.name: record
    for record in (
        SchemeRecord("identity", "control", "controls:Identity", _WANG),
        SchemeRecord("same", "control", "controls:Same", "Good-DA-in-KD code (Wang et al., NeurIPS 2022)"),
        SchemeRecord("flip", "geometric", "geometric:Flip", _WANG),
        SchemeRecord("crop", "geometric", "geometric:Crop", _WANG),
        SchemeRecord("crop_flip", "geometric", "geometric:CropFlip", _WANG),
        SchemeRecord("cutout", "erasing", "erasing.cutout:Cutout", "DeVries & Taylor 2017"),
        SchemeRecord(
            "random_erasing",
            "erasing",
            "erasing.random_erasing:RandomErasing",
            "Zhong et al., AAAI 2020",
            per_image=True,
        ),
        SchemeRecord(
            "masking", "erasing", "erasing.masking:Masking", "Good-DA-in-KD code, after He et al., CVPR 2022"
        ),
        SchemeRecord("autoaugment", "policy", "policy.autoaugment:AutoAugment", "Cubuk et al., CVPR 2019"),
        SchemeRecord(
            "randaugment",
            "policy",
            "policy.randaugment:RandAugment",
            "Cubuk et al., NeurIPS 2020",
            per_image=True,
        ),
        SchemeRecord(
            "trivialaugment",
            "policy",
            "policy.trivialaugment:TrivialAugment",
            "Müller & Hutter, ICCV 2021",
            per_image=True,
        ),
        SchemeRecord(
            "augmix", "policy", "policy.augmix:AugMix", "Hendrycks et al., ICLR 2020", per_image=True
        ),
        SchemeRecord("color_jitter", "colour", "colour.jitter:ColorJitter", _DUAL, per_image=True),
        SchemeRecord("grayscale", "colour", "colour.jitter:Grayscale", _DUAL, per_image=True),
        SchemeRecord("gaussian_blur", "colour", "colour.blur:GaussianBlur", _DUAL, per_image=True),
        SchemeRecord("mixup", "mixing", "mixing.mixup:Mixup", "Zhang et al., ICLR 2018", mixes=True),
        SchemeRecord("full_mixup", "mixing", "mixing.mixup:FullMixup", _MIXKD, mixes=True, per_image=True),
        SchemeRecord(
            "partial_mixup", "mixing", "mixing.mixup:PartialMixup", _MIXKD, mixes=True, per_image=True
        ),
        SchemeRecord("cutmix", "mixing", "mixing.cutmix:CutMix", "Yun et al., ICCV 2019", mixes=True),
        SchemeRecord("patchmix", "mixing", "mixing.patchmix:PatchMix", "Good-DA-in-KD code", mixes=True),
        SchemeRecord(
            "recursive_mix",
            "mixing",
            "mixing.recursive:RecursiveMix",
            "Yang et al., NeurIPS 2022",
            mixes=True,
            history=True,
        ),
        *(
            SchemeRecord(
                f"cutmix_pick_{criterion}",
                "picking",
                "combined.picking:Pick",
                _WANG,
                {"criterion": criterion},
                CRITERIA_NEEDS[criterion],
                "cutmix",
                mixes=True,
            )
            for criterion in ("teacher", "student", "kl", "dissimilarity")
        ),
    )
}
# flip+crop has the law of crop+flip: offsets are as likely as their mirror images.
ALIASES = {
    "flip_crop": "crop_flip",
    "crop+flip": "crop_flip",
    "flip+crop": "crop_flip",
    "cropflip": "crop_flip",
    "aa": "autoaugment",
    "autoaugment_cifar10": "autoaugment",
    "autoaugment_imagenet": "autoaugment(policy=imagenet)",
    "rand_augment": "randaugment",
    "trivial_augment": "trivialaugment",
    "trivialaugmentwide": "trivialaugment",
    "colorjitter": "color_jitter",
    "colour_jitter": "color_jitter",
    "greyscale": "grayscale",
    "random_erase": "random_erasing",
    "randomerasing": "random_erasing",
    "recursivemix": "recursive_mix",
    "rm": "recursive_mix",
    "fmu": "full_mixup",
    "pmu": "partial_mixup",
    "cutmixpick_s": "cutmix_pick_student",
    "cutmixpick_t": "cutmix_pick_teacher",
    "cutmixpick_kl": "cutmix_pick_kl",
    "none": "identity",
}
# Names for several schemes at once, where a list of schemes is asked for.
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
GROUPS = {"wang2022": PUBLISHED_NINE}
