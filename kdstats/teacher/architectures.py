"""Networks by name, from the zoo and from elsewhere: ``torchvision:resnet34``, ``timm:…``, ``pkg.module:factory``."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from torch import nn

from kdstats import models
from kdstats.data import LabelledImages
from kdstats.errors import MissingError, UsageError, unknown

LIBRARIES = ("torchvision:", "timm:")
_FACTORY = re.compile(r"(?!torchvision:|timm:|hf-hub:)[A-Za-z_][\w.]*:[A-Za-z_]\w*")


def is_factory(text: str) -> bool:
    """Whether ``text`` is written like ``package.module:factory``, and is no file."""
    return _FACTORY.fullmatch(text) is not None and not exists(text)


def runs_own_code(arch: str) -> bool:
    """Whether ``arch``, of a network that was loaded, is a user's factory, whose code can change while weights do not."""
    return ":" in arch and not arch.startswith(LIBRARIES)


def exists(text: str) -> bool:
    """Whether there is such a file or folder; a text that cannot be a name is none."""
    try:
        return Path(text).exists()
    except (OSError, ValueError):
        return False


def check(arch: str) -> str:
    """The architecture's name in its proper spelling, or why there is none; before any data are read.

    Raises:
        UsageError: Unknown name, or a factory that cannot be found.
        MissingError: timm is not installed.
    """
    if arch.startswith("torchvision:"):
        _check_torchvision(arch.partition(":")[2])
    elif arch.startswith("timm:"):
        _check_timm(arch.partition(":")[2])
    elif is_factory(arch):
        _find(arch)
    else:
        return models.canonical(arch)
    return arch


def harmless(arch: str, where: str, instead: str) -> str:
    """``arch``, a name that was read from a file, if it can run no code but a library's.

    Args:
        arch: What the file says.
        where: The file, for the message.
        instead: What a user who trusts the name can do.

    Raises:
        MissingError: It names a function, which would be imported, or no known network.
    """
    if runs_own_code(arch):
        raise MissingError(f"{where} names code, {arch}; {instead} if you trust it")
    try:
        return check(arch)
    except UsageError as error:
        raise MissingError(f"{where}: {error}") from None


def build(arch: str, images: LabelledImages) -> nn.Module:
    """A freshly made network for the classes, channels and size of ``images``, without trained weights.

    Args:
        arch: A name of the zoo; ``torchvision:NAME``; ``timm:NAME`` (extra ``timm``); or
            ``package.module:factory``, a callable of yours that returns a module and is called with those of
            ``num_classes``, ``img_size`` and ``in_channels`` that it takes.
        images: The data the network will see.

    Raises:
        UsageError: Unknown name, or a factory that cannot be found or called, or returns no module.
        MissingError: timm is not installed.
    """
    if arch.startswith("torchvision:"):
        return torchvision_model(arch.partition(":")[2], images)
    if arch.startswith("timm:"):
        return _timm(arch.partition(":")[2], images)
    if is_factory(arch):
        return from_factory(arch, images)
    return models.build(arch, images.classes, images.img_size, images.channels)


def torchvision_model(name: str, images: LabelledImages) -> nn.Module:
    """``torchvision.models.NAME`` for the classes of ``images``, untrained."""
    theirs = _check_torchvision(name)
    if images.channels != 3:
        raise UsageError(
            f"torchvision:{name} takes colour images, {images.name} has {images.channels} channel"
        )
    network: nn.Module = theirs.get_model(name, weights=None, num_classes=images.classes)
    return network


def _check_torchvision(name: str) -> Any:
    from torchvision import models as theirs

    known = theirs.list_models(module=theirs)
    if name not in known:
        raise unknown("torchvision model", name, known)
    return theirs


def timm_library() -> Any:
    """The library timm; ``MissingError`` with the command that installs it, if it is not there."""
    try:
        return importlib.import_module("timm")
    except ModuleNotFoundError:
        raise MissingError("timm: networks need the library timm: pip install 'kdstats[timm]'") from None


def _check_timm(name: str) -> Any:
    timm = timm_library()
    known = timm.list_models()
    if name not in known:
        raise unknown("timm model", name, known)
    return timm


def _timm(name: str, images: LabelledImages) -> nn.Module:
    timm = _check_timm(name)
    network: nn.Module = timm.create_model(
        name, pretrained=False, num_classes=images.classes, in_chans=images.channels
    )
    return network


def from_factory(text: str, images: LabelledImages) -> nn.Module:
    """What the user's ``package.module:factory`` returns; the current folder is searched too.

    This imports and runs the module that was named, which is what naming it asks for.

    Raises:
        UsageError: No such module or function, it raises, or it returns no ``torch.nn.Module``.
    """
    factory = _find(text)
    known = {"num_classes": images.classes, "img_size": images.img_size, "in_channels": images.channels}
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        raise UsageError(f"{text} is not a function") from None
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters)
    given = {k: v for k, v in known.items() if takes_all or k in {p.name for p in parameters}}
    try:
        network = factory(**given)
    except (Exception, SystemExit) as error:  # a stranger's code
        raise UsageError(f"{text}({_said(given)}) raised {type(error).__name__}: {error}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{text} returned {type(network).__name__}, not a torch.nn.Module")
    return network


def _said(given: dict[str, int]) -> str:
    return ", ".join(f"{k}={v}" for k, v in given.items())


def _find(text: str) -> Callable[..., Any]:
    module_name, _, function_name = text.partition(":")
    if module_name.endswith(".py"):
        raise UsageError(
            f"a function is named as it is imported: write {module_name.removesuffix('.py')}:{function_name}, not {text}"
        )
    root = module_name.partition(".")[0]
    if root in sys.stdlib_module_names:
        raise UsageError(f"{root} is a module of Python itself; {text} must name a function of yours")
    here = str(Path.cwd())
    added = here not in sys.path
    if added:
        sys.path.append(here)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise UsageError(
            f"cannot import {module_name} for the network {text}: {type(error).__name__}: {error}"
            f"{meant(text) if isinstance(error, ModuleNotFoundError) else ''}"
        ) from error
    finally:
        if added:
            sys.path.remove(here)
    found = getattr(module, function_name, None)
    if not callable(found):
        names = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise unknown(f"function in {module_name}", function_name, names)
    return found  # type: ignore[no-any-return]


def meant(text: str) -> str:
    """``; did you mean torchvision:NAME?`` where the word before the colon is nearly that of a library; or empty."""
    kind, colon, rest = text.partition(":")
    near = get_close_matches(kind.lower().replace("_", "-"), ("torchvision", "timm", "hf-hub"), 1, 0.7)
    return f"; did you mean {near[0]}:{rest}?" if colon and near else ""
