"""What names a network: a weights file, a library's network, or a function; checked before any data are read."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

from kdstats.data import Selection
from kdstats.errors import MissingError, UsageError
from kdstats.teacher import architectures, pretrained
from kdstats.teacher.card import TeacherCard

_IN_A_FILE = re.compile(r"(.+)\.py:([A-Za-z_]\w*)")


def is_file_source(source: str | Path) -> bool:
    """Whether ``source`` names a weights file, rather than a library's network or a factory."""
    text = str(source)
    return not text.startswith(pretrained.PREFIXES) and not architectures.is_factory(text)


def refuse_foreign(source: str, arch: str | None, where: str, trust: str, role: str) -> None:
    """Refuses a network that a file of others names, unless it is a weights file of an architecture that runs no code.

    To be asked before anything else is done with the names: looking one up may import it.

    Args:
        source: See :func:`kdstats.teacher.load.load_network`.
        arch: Likewise.
        where: The file that names it, for the message.
        trust: What a user who trusts the file can do.
        role: ``teacher`` or ``student``, for messages.

    Raises:
        MissingError: ``source`` is a function, a library's network or an address, or no regular file; ``arch`` names a
            function, or nothing known.
    """
    if not is_file_source(source):
        raise MissingError(
            f"{where} names a {role} by code or address, {source}, not a weights file; {trust} if you trust it"
        )
    try:
        _check_file(Path(source), arch, role, None)
    except UsageError as error:
        raise MissingError(f"{where}: {error}") from None
    if arch is not None:
        architectures.harmless(arch, where, trust)


def flag_of(role: str, what: str) -> str:
    """The option that describes the network of a role: ``--arch`` or ``--student-arch``, and so on."""
    return f"--{what}" if role == "teacher" else f"--{role}-{what}"


def check_source(
    source: str | Path | None, arch: str | None, role: str = "teacher", asked: Selection | None = None
) -> None:
    """Refuses a network that cannot be had, as far as that can be seen without data and weights.

    Args:
        source: See :func:`kdstats.teacher.load.load_network`.
        arch: Likewise.
        role: ``teacher`` or ``student``, for messages.
        asked: The images that it will see, for the command that trains a missing one; None where that is not known.

    Raises:
        UsageError: Unknown names, functions that cannot be imported, or no network for another set than digits.
        MissingError: No such file, a library that is not installed, or a card that cannot be used.
    """
    text = str(source)
    if source is None:
        if asked is not None and asked.dataset != "digits":
            raise UsageError(
                f"the shipped teacher knows digits only; name a teacher for {asked.dataset} with --{role} FILE "
                f"[{flag_of(role, 'arch')} NAME], or train one: {training_command(asked, Path('teacher'), None)}"
            )
    elif is_file_source(source):
        _check_file(Path(text), arch, role, asked)
        if arch is not None:
            architectures.check(arch)
        else:
            named_by_card(TeacherCard.beside(Path(text)), role)
    elif arch is not None:
        raise UsageError(
            f"{text} names its own architecture; {flag_of(role, 'arch')} belongs to a weights file"
        )
    elif architectures.is_factory(text):
        architectures.check(text)
    else:
        pretrained.check(text)


def defaults_of(source: str | Path | None, dataset: str) -> tuple[int | None, str | None]:
    """Image size and classes that the card beside a weights file was made for, see :meth:`TeacherCard.defaults`.

    Raises:
        MissingError: The card is unreadable.
    """
    if source is None or not is_file_source(source):
        return None, None
    return TeacherCard.beside(Path(source)).defaults(dataset)


def named_by_card(card: TeacherCard, role: str) -> str | None:
    """The architecture on a card, if it is one that can run no code; None if there is none.

    Raises:
        MissingError: It names code, or nothing known.
    """
    if card.arch is None:
        return None
    return architectures.harmless(
        card.arch, f"the card {card.file}", f"pass {flag_of(role, 'arch')} {card.arch}"
    )


def training_command(asked: Selection, out: Path, arch: str | None) -> str:
    """The command that trains a network for the images ``asked`` (from a checkout of kdstats)."""
    name = out.name if out.suffix == ".safetensors" else f"{out.stem or 'teacher'}.safetensors"
    pairs = {
        "--dataset": asked.dataset,
        "--data": asked.path,
        "--img-size": asked.img_size,
        "--classes": asked.classes,
        "--per-class": asked.per_class,
        "--arch": arch,
        "--out": out.parent / name,
    }
    words = [part for flag, value in pairs.items() if value is not None for part in (flag, str(value))]
    return shlex.join(["python", "-m", "runners.teacher", *words])


def _check_file(file: Path, arch: str | None, role: str, asked: Selection | None) -> None:
    text = str(file)
    try:
        if file.is_file():
            return
        folder = file.is_dir()
    except (OSError, ValueError) as error:
        said = getattr(error, "strerror", None) or error
        raise MissingError(f"no {role} at {text[:200]}: {said}") from None
    function = _IN_A_FILE.fullmatch(text)
    if function is not None:
        module = ".".join(part for part in Path(function[1]).parts if part not in (".", "/"))
        raise UsageError(
            f"a function is named as it is imported: write {module}:{function[2]}, in the folder from which {module} "
            f"can be imported, not {text}"
        )
    if hint := architectures.meant(text):
        raise UsageError(f"no {role} at {text}{hint}")
    if folder:
        raise MissingError(f"no {role} at {file.absolute()}: it is a folder; name the weights file in it")
    advice = ""
    if asked is not None:
        command = training_command(asked, file, arch)
        advice = f". `{command}` trains one (from a checkout of kdstats)"
    raise MissingError(f"no {role} at {file.absolute()}{advice}")
