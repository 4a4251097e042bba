"""Weights in and out: safetensors, or old ``.pth`` files through ``weights_only=True``. Nothing here can run code."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdstats.errors import MissingError

_WRAPPERS = ("model", "state_dict", "net", "model_state_dict")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors in a weights file, by name.

    Accepts ``.safetensors`` and PyTorch files that hold a bare state dict or one under ``model`` or
    ``state_dict``; a ``module.`` prefix (DataParallel) is removed. PyTorch files are read with
    ``weights_only=True``; there is no switch that turns this off.

    Raises:
        MissingError: No such file, not a weights file, damaged, or a file that needs code to unpickle.
    """
    file = Path(path)
    if not file.is_file():
        raise MissingError(f"no weights file at {file.absolute()}")
    raw: Any = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    for key in _WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
            break
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        raise MissingError(f"{file} holds no state dict (a mapping of names to tensors)")
    return {str(k).removeprefix("module."): v for k, v in raw.items()}


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise MissingError(f"{file} is not a readable safetensors file: {error}") from None


def _read_torch(file: Path) -> Any:
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            raise MissingError(
                f"{file} would have to run code to be read and was refused; save it again as a plain state dict "
                "or as .safetensors where you trust it"
            ) from None
        raise MissingError(f"{file} is not a PyTorch weights file, or is damaged") from None
    except Exception as error:
        # Damaged files also raise AssertionError, AttributeError, IndexError, struct.error.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingError(f"{file} is not a PyTorch weights file, or is damaged: {first}") from None


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Loads ``path`` into ``model``, strictly: every name and shape must fit.

    ``num_batches_tracked`` may be absent, as in checkpoints of very old PyTorch versions.

    Raises:
        MissingError: See :func:`read_state_dict`; also when keys or shapes do not fit, naming which.
    """
    given = read_state_dict(path)
    wanted = model.state_dict()
    counters = {k for k in wanted if k.endswith("num_batches_tracked")}
    missing = [k for k in wanted if k not in given and k not in counters]
    extra = [k for k in given if k not in wanted]
    shapes = [k for k in wanted if k in given and given[k].shape != wanted[k].shape]
    if missing or extra or shapes:
        raise MissingError(
            f"{Path(path)} does not fit the network: " + _misfit(missing, extra, shapes, given, wanted)
        )
    bad = [k for k, v in given.items() if v.is_floating_point() and not bool(torch.isfinite(v).all())]
    if bad:
        raise MissingError(f"{Path(path)} holds NaN or infinite weights in {_some(bad)}")
    model.load_state_dict({k: given.get(k, wanted[k]) for k in wanted}, strict=True)


def _misfit(
    missing: list[str],
    extra: list[str],
    shapes: list[str],
    given: Mapping[str, Tensor],
    wanted: Mapping[str, Tensor],
) -> str:
    parts = []
    if shapes:
        details = [f"{k} is {list(given[k].shape)}, expected {list(wanted[k].shape)}" for k in shapes[:3]]
        parts.append("; ".join(details) + (f"; {len(shapes) - 3} more shapes" if len(shapes) > 3 else ""))
    if missing:
        parts.append(f"missing {_some(missing)}")
    if extra:
        parts.append(f"unexpected {_some(extra)}")
    return "; ".join(parts) + ". Name the right architecture with --arch."


def _some(keys: list[str]) -> str:
    return ", ".join(keys[:3]) + (f" and {len(keys) - 3} more" if len(keys) > 3 else "")


def save_weights(
    model: nn.Module, path: str | os.PathLike[str], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes the state dict as safetensors, first to a temporary name, then moved into place.

    Equal weights and ``metadata`` give equal bytes: the metadata is one JSON entry, because the format's
    writer puts several entries in an order of its own.
    """
    from safetensors.torch import save_file

    file = Path(path)
    file.parent.mkdir(parents=True, exist_ok=True)
    temp = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
        save_file(tensors, temp, metadata={"kdstats": json.dumps(dict(metadata or {}), sort_keys=True)})
        # The format's writer makes the file readable by its owner alone; a package's weights are for everyone.
        temp.chmod(0o666 & ~_umask())
        os.replace(temp, file)
    finally:
        temp.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
