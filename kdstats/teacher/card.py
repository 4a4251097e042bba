"""The card beside a weights file: what ``runners.teacher`` writes of a training, and what follows from it."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kdstats.data import LabelledImages
from kdstats.data import card as data_card
from kdstats.errors import MissingError, UsageError
from kdstats.json_text import parse_json
from kdstats.small_file import read_text_of
from kdstats.teacher.normalisation import Constants
from kdstats.teacher.notes import Note


def card_of(weights: Path) -> dict[str, Any]:
    """The JSON object beside a weights file; empty when there is none.

    Raises:
        MissingError: It cannot be read.
    """
    card = weights.with_suffix(".json")
    try:
        if not card.is_file():
            return {}
        loaded = parse_json(read_text_of(card, "card"))
    except (OSError, ValueError) as error:
        raise MissingError(f"{card} is not readable JSON: {error}") from None
    return loaded if isinstance(loaded, dict) else {}


@dataclass(frozen=True)
class TeacherCard:
    """The fields of a card that are of use; None for what it does not say, or says in another form.

    Attributes:
        file: The card.
        arch: Architecture; a name from a file must never be able to run code.
        sha256: Of the weights.
        dataset: Name of the training set.
        class_names: In the order of the logits.
        img_size: Height and width of the training images, pixels.
        constants: What they were normalised with.
        asked: The selection of images, as the training was asked for it.
    """

    file: Path
    arch: str | None = None
    sha256: str | None = None
    dataset: str | None = None
    class_names: tuple[str, ...] | None = None
    img_size: int | None = None
    constants: Constants | None = None
    asked: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def beside(cls, weights: Path) -> TeacherCard:
        """That of a weights file. Raises as :func:`card_of`."""
        card = card_of(weights)

        def text(key: str) -> str | None:
            return card[key] if isinstance(card.get(key), str) else None

        names, asked = card.get("class_names"), card.get("selection")
        return cls(
            file=weights.with_suffix(".json"),
            arch=text("arch"),
            sha256=text("sha256"),
            dataset=text("dataset"),
            class_names=tuple(names) if isinstance(names, list) and all(map(_is_text, names)) else None,
            img_size=_size(card.get("img_size")),
            constants=Constants.read(card.get("mean"), card.get("std")),
            asked=asked if isinstance(asked, dict) else {},
        )

    def check_classes(self, images: LabelledImages) -> Note | None:
        """Refuses a network of other classes than those of ``images``.

        A full set of the same name has the same classes in the same order, however a source spells them.

        Returns:
            A warning where the spelling alone differs.

        Raises:
            MissingError: Other classes, or the same in another order.
        """
        names = self.class_names
        if names is None or names == images.class_names:
            return None
        if self.dataset == images.name and len(names) == images.classes == _all_classes(images.name):
            at = next(i for i, (a, b) in enumerate(zip(names, images.class_names, strict=True)) if a != b)
            return Note(
                "teacher-class-names",
                f"{self.file.name} spells the classes of {images.name} in another way ({names[at]}, here "
                f"{images.class_names[at]}); they are taken to be the same, in the same order",
            )
        lacking = [n for n in names if n not in images.class_names]
        strange = [n for n in images.class_names if n not in names]
        if lacking or strange:
            said = [f"{_few(lacking)} missing here"] if lacking else []
            said += [f"{_few(strange)} not known to it"] if strange else []
        else:
            said = ["the same in another order"]
        way = (
            f"; --classes {','.join(names)}" if len(names) <= 20 and not any("," in n for n in names) else ""
        )
        raise MissingError(
            f"{self.file} says that the network was trained on {len(names)} classes ({_few(list(names))}), the images "
            f"of {images.name} have {images.classes} ({_few(list(images.class_names))}): {', '.join(said)}{way}"
        )

    def notes(self, images: LabelledImages) -> list[Note]:
        """Warnings about images unlike those of the training. Raises as :meth:`check_classes`."""
        spelling = self.check_classes(images)
        found = [spelling] if spelling is not None else []
        if self.dataset is not None and self.dataset != images.name:
            found.append(
                Note(
                    "teacher-data-set",
                    f"{self.file.name} says that the network was trained on {self.dataset}; it is asked about "
                    f"{images.name}",
                )
            )
        if self.img_size not in (None, images.img_size):
            found.append(
                Note(
                    "teacher-image-size",
                    f"{self.file.name} says that the network was trained on images of {self.img_size}x{self.img_size} "
                    f"pixels; it is asked about {images.img_size}x{images.img_size} (--img-size {self.img_size})",
                )
            )
        return found

    def defaults(self, dataset: str) -> tuple[int | None, str | None]:
        """Image size and classes that the training was asked for; None where it was not, or for another data set.

        Args:
            dataset: Registry name.
        """
        if self.dataset != dataset:
            return None, None
        classes = self.asked.get("classes")
        if not isinstance(classes, str) or not classes:
            classes = None
        elif classes.startswith("@"):  # a file of another machine: the names themselves are on the card
            names = self.class_names
            classes = None if names is None or any("," in n for n in names) else ",".join(names)
        return _size(self.asked.get("img_size")), classes


def _all_classes(dataset: str) -> int | None:
    try:
        return data_card(dataset).classes
    except UsageError:  # a set that somebody made in Python
        return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _size(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
