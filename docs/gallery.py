"""Makes docs/schemes: a contact sheet of real images for every scheme, and the page that shows them.

    PYTHONPATH=. python docs/gallery.py

Photographs: the two that come with scikit-learn (china.jpg by danielbuechele, flower.jpg by vultilion, both CC BY
2.0), cut into squares of 64 pixels. Schemes that pick views by a network show digits and the teacher inside
kdstats; where a student is asked, one is trained on the spot.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path

import torch
from PIL import Image
from sklearn.datasets import load_sample_image

from kdstats import data, schemes
from kdstats.cli.schemes_show import describe, view_cells
from kdstats.data import ImageSet
from kdstats.figures.contact_sheet import contact_sheet
from kdstats.figures.style import style
from kdstats.schemes.naming.presets import PRESETS
from kdstats.teacher.load import load_network
from kdstats.teacher.network import Network

FOLDER = Path(__file__).parent / "schemes"
MORE = (
    "cutmix(p=0.5)",
    "cutmix@dualteacher",
    "partial_mixup(unmixed=0.5)",
    "crop_flip+cutout",
    "crop_flip+cutmix",
    "pick(mixup)",
)
INTRODUCTION = (
    "Made by `docs/gallery.py`: originals above, views below; under mixed views λ, the share of the own image, and",
    "both classes. One random draw for all eight, as in the code of Wang et al., or one per image where the caption",
    "says so.",
    "Schemes that ask a network show digits and the teacher inside kdstats. The command",
    "`kdstats schemes show NAME --out FILE` draws the same for your data. Photographs: china.jpg (danielbuechele)",
    "and flower.jpg (vultilion), both CC BY 2.0, as they come with scikit-learn.",
)
_DPI = 110
# Shown with one draw per image, because one draw for all eight may come to nothing.
_SAMPLE = (
    *(
        "cutmix(p=0.5)",
        "partial_mixup(unmixed=0.5)",
        "grayscale",
        "gaussian_blur",
        "random_erasing",
        "color_jitter",
    ),
    *("autoaugment", "randaugment", "trivialaugment", "augmix"),
)


def photographs() -> ImageSet:
    """24 squares of 64 pixels from each of two photographs."""
    squares, labels = [], []
    for label, name in enumerate(("china.jpg", "flower.jpg")):
        whole = Image.fromarray(load_sample_image(name))
        for top in range(4):
            for left in range(6):
                box = (left * 100, top * 100, left * 100 + 120, top * 100 + 120)
                cut = torch.frombuffer(
                    bytearray(whole.crop(box).resize((64, 64)).tobytes()), dtype=torch.uint8
                )
                squares.append(cut.view(64, 64, 3).permute(2, 0, 1))
                labels.append(label)
    images = torch.stack(squares)
    return ImageSet(
        name="photographs",
        split="train",
        images=images,
        labels=torch.tensor(labels),
        sample_id=torch.arange(len(images)),
        class_names=("temple", "flower"),
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        base="none",
        digest="scikit-learn sample images",
    )


def student() -> Network:
    """A student of the digits teacher, trained for three epochs."""
    from runners import student as program

    with tempfile.TemporaryDirectory() as folder:
        program.main(["--scheme", "identity", "--epochs", "3", "--out", folder])
        weights = next(Path(folder).rglob("last.safetensors"))
        return load_network(weights, "lenet8", data.load("digits"), torch.device("cpu"), "student")


def file_of(name: str) -> str:
    """A file name for a scheme or expression."""
    return "".join(c if c.isalnum() or c in "_-" else "-" for c in name).strip("-") + ".webp"


def main() -> None:
    """Writes the sheets and README.md."""
    FOLDER.mkdir(exist_ok=True)
    photos, digits = photographs(), data.load("digits")
    networks = {
        "teacher": load_network(None, None, digits, torch.device("cpu")).logits,
        "student": student().logits,
    }
    lines = ["# The schemes at a glance", "", *INTRODUCTION, ""]
    for name in (*schemes.names(), *MORE):
        images = digits if schemes.record(name).needs else photos
        draws = "sample" if name in _SAMPLE else None
        scheme = schemes.get(name, draws=draws, space=schemes.PixelSpace(images.mean, images.std))
        facts = describe(name, draws)
        figure, sheet = contact_sheet(
            view_cells(scheme, images, 3, **networks), facts.label, images.name, scheme.draws, 3
        )
        drawn = io.BytesIO()
        with style():
            figure.savefig(drawn, dpi=_DPI, format="png")
        with Image.open(drawn) as sheet_image:
            sheet_image.convert("RGB").save(FOLDER / file_of(name), quality=82, method=6)
        rules = "; ".join(f"{key}: {text}" for key, text in facts.does.items())
        presets = ", ".join(f"`{p}`" for p in facts.presets)
        lines += [
            f"## `{name}`",
            "",
            ". ".join(text for text in (facts.reference, rules, presets and f"Presets: {presets}") if text)
            + ".",
            "",
            f"![{sheet.caption()}]({file_of(name)})",
            "",
            f"*{sheet.caption()}*",
            "",
        ]
    lines += ["## Presets", "", "| preset | code | schemes |", "|---|---|---|"]
    lines += [f"| `@{k}` | {p.reference} | {', '.join(p.schemes)} |" for k, p in PRESETS.items()]
    (FOLDER / "README.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
