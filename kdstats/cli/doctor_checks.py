"""What ``kdstats doctor`` looks at."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from kdstats import __version__
from kdstats.data.cache import cache_folder
from kdstats.disk import free_bytes
from kdstats.errors import KdstatsError
from kdstats.offline import VARIABLE, is_offline
from kdstats.schemes.naming import plugins

OPTIONAL = {"timm": "networks timm:NAME and hf-hub:…"}
_ROOM = 2 << 30  # bytes: decoded CIFAR and Tiny ImageNet with something to spare


@dataclass(frozen=True, slots=True)
class Finding:
    """One line.

    Attributes:
        what: What was looked at.
        found: What is there.
        verdict: ``ok``, ``note`` (works, could be better) or ``missing`` (something will fail).
        advice: What to do; empty if nothing.
    """

    what: str
    found: str
    verdict: str = "ok"
    advice: str = ""


def examine() -> list[Finding]:
    """All findings, in the order in which one would look."""
    return [*_software(), *_processors(), *_folders(), _network(), *_plugins()]


def _software() -> Iterator[Finding]:
    yield Finding("kdstats", f"{__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in ("torch", "torchvision", "numpy", "pandas", "pyarrow"):
        try:
            yield Finding(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            yield Finding(name, "not installed", "missing", f"pip install {name}")
    for name, use in OPTIONAL.items():
        if importlib.util.find_spec(name) is None:
            yield Finding(name, "not installed", "note", f"pip install 'kdstats[{name}]' for {use}")
        else:
            yield Finding(name, importlib.metadata.version(name))


def _processors() -> Iterator[Finding]:
    cores, threads = os.cpu_count() or 1, torch.get_num_threads()
    fast = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    yield Finding(
        "processor",
        f"{cores} cores, {threads} threads for torch, {torch.backends.cpu.get_cpu_capability()}, "
        f"bfloat16 {'fast' if fast else 'slow'}",
        "ok" if threads <= cores else "note",
        "" if threads <= cores else "more threads than cores fight each other: set OMP_NUM_THREADS",
    )
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            props = torch.cuda.get_device_properties(i)
            yield Finding(f"cuda:{i}", f"{props.name}, {props.total_memory / 2**30:.0f} GiB")
    else:
        yield Finding(
            "GPU", "none", "note", "everything runs on the CPU; trainings of hundreds of epochs want a GPU"
        )


def _folders() -> Iterator[Finding]:
    home = cache_folder()
    free = free_bytes(home)
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
        small = free is not None and free < _ROOM
        yield Finding(
            "cache",
            f"{home}" + ("" if free is None else f", {free / 2**30:.1f} GiB free"),
            "note" if small else "ok",
            "little room: set KDSTATS_HOME to a folder on a larger disk" if small else "",
        )
    except OSError as error:
        yield Finding(
            "cache",
            f"{home} cannot be written ({error.strerror})",
            "note",
            "set KDSTATS_HOME to a folder of yours",
        )
    data = os.environ.get("KDSTATS_DATA")
    if data is None:
        yield Finding("data", "KDSTATS_DATA is not set", "note", "name folders with --data, or set it once")
    elif not Path(data).is_dir():
        yield Finding("data", f"KDSTATS_DATA={data} is no folder", "missing", "correct or unset KDSTATS_DATA")
    else:
        inside = sorted(p.name for p in Path(data).iterdir())
        yield Finding("data", f"{data}: {', '.join(inside[:8]) or 'empty'}")


def _network() -> Finding:
    if is_offline():
        return Finding("downloads", f"switched off ({VARIABLE})")
    return Finding("downloads", f"on request only; {VARIABLE}=1 switches them off")


def _plugins() -> Iterator[Finding]:
    for name in plugins.found():
        try:
            record = plugins.record(name)
            yield Finding("plug-in", f"{name} from {record.source}")
        except KdstatsError as error:
            yield Finding(
                "plug-in", str(error), "missing", f"mend or uninstall it; `kdstats schemes check {name}`"
            )
    for text in plugins.refused():
        yield Finding("plug-in", text, "missing", "rename its scheme or uninstall it")
