"""Weights in and out: safetensors, or old ``.pth`` files through ``weights_only=True``. Nothing here can run code."""

from __future__ import annotations

import json
import os
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from kdstats.errors import KdstatsError, MissingError
from kdstats.models.fit import misfit, plain, shapes_of, some
from kdstats.models.guess import infer

_WRAPPERS = ("model", "state_dict", "net", "model_state_dict")


def read_state_dict(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """The tensors in a weights file, by name.

    Accepts ``.safetensors`` and PyTorch files of any other suffix (``.pth``, ``.pt``, ``.bin``, ``.ckpt``), new or
    from before 1.6, that hold a bare state dict or one under ``model``, ``state_dict``, ``net`` or
    ``model_state_dict``. What stands beside it there (epoch, accuracy, optimiser) may be any plain data and is
    ignored. Prefixes of DataParallel (``module.``) and ``torch.compile`` (``_orig_mod.``) are removed. PyTorch
    files are read with ``weights_only=True``; there is no switch that turns this off.

    Raises:
        MissingError: No such file, not a weights file, damaged, larger unpacked than on disk, a file that needs code to
            unpickle, or tensors that are not plain numbers in memory (sparse, quantised, on the meta device).
    """
    file = Path(path)
    try:
        there = file.is_file()
    except (OSError, ValueError) as error:  # no possible name of a file
        raise MissingError(f"no weights file at {str(file)[:200]}: {error}") from None
    if not there:
        raise MissingError(f"no weights file at {file.absolute()}")
    raw: Any = _read_safetensors(file) if file.suffix == ".safetensors" else _read_torch(file)
    for key in _WRAPPERS:
        if isinstance(raw, Mapping) and isinstance(raw.get(key), Mapping):
            raw = raw[key]
            break
    if not isinstance(raw, Mapping) or not raw or not all(isinstance(v, Tensor) for v in raw.values()):
        raise MissingError(f"{file} holds no state dict (a mapping of names to tensors)")
    for key, value in raw.items():
        if (kind := _strange(value)) is not None:
            raise MissingError(
                f"{file}: {key} is a {kind} tensor; save plain tensors (value.to_dense(), dequantize())"
            )
    return plain(raw)


def _strange(value: Tensor) -> str | None:
    """In what way a tensor is not plain numbers in memory; None where it is."""
    if value.is_quantized:
        return "quantised"
    if value.is_nested:
        return "nested"
    if value.layout != torch.strided:
        return str(value.layout).removeprefix("torch.").replace("_", " ")
    return None if value.device.type == "cpu" else value.device.type


def _read_safetensors(file: Path) -> Any:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(file)
    except (SafetensorError, OSError, ValueError) as error:
        raise MissingError(f"{file} is not a readable safetensors file: {error}") from None


def _check_archive(file: Path) -> None:
    """Refuses an archive that would unpack to more than itself: PyTorch stores its members as they are.

    Raises:
        MissingError: A compressed member, members that overlap, or a damaged directory.
    """
    with file.open("rb") as stream:
        if stream.read(2) != b"PK":
            return
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError) as error:
        raise MissingError(f"{file} is not a PyTorch weights file, or is damaged: {error}") from None
    packed = [m.filename for m in members if m.compress_type != zipfile.ZIP_STORED]
    total, size = sum(m.file_size for m in members), file.stat().st_size
    if packed or total > size:
        what = f"{packed[0]} is compressed" if packed else f"{total:,} bytes in a file of {size:,}"
        raise MissingError(
            f"{file} was not written by PyTorch and was refused: {what}; PyTorch compresses nothing"
        )


def _read_torch(file: Path) -> Any:
    _check_archive(file)
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "weights_only" in str(error).lower() or "Unsupported" in str(error):
            raise MissingError(_refusal(file, str(error))) from None
        raise MissingError(f"{file} is not a PyTorch weights file, or is damaged") from None
    except Exception as error:
        # Damaged files also raise AssertionError, AttributeError, IndexError, struct.error.
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise MissingError(f"{file} is not a PyTorch weights file, or is damaged: {first}") from None


def _refusal(file: Path, said: str) -> str:
    """Why ``file`` was not unpickled, from what PyTorch said of it."""
    named = re.search(r"GLOBAL ([\w.]+)", said)
    what = named.group(1) if named else ""
    holds = f": it holds {what}, which is no plain data" if what else ""
    advice = "save it again as a plain state dict or as .safetensors where you trust it"
    if what == "argparse.Namespace":
        advice = f"files of this kind keep the training's options; take ckpt_epoch_N.pth from the same run, or {advice}"
    return f"{file} would have to run code to be read and was refused{holds}; {advice}"


def load_weights(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Loads ``path`` into ``model``, strictly: every name and shape must fit.

    ``num_batches_tracked`` may be absent, as in checkpoints of very old PyTorch versions.

    Raises:
        MissingError: See :func:`read_state_dict`; also when names or shapes do not fit, saying which, and which
            network they would fit; when a weight is of a kind of number that the network's is not (integers, 8-bit
            floats, complex numbers for floats); and when one is not finite in the network's precision. Then nothing
            has been loaded.
    """
    given = read_state_dict(path)
    wanted = model.state_dict()
    wrong = misfit(shapes_of(given), shapes_of(wanted))
    if wrong:
        raise MissingError(f"{Path(path)} does not fit the network: {wrong}. {_hint(given, wanted)}")
    foreign = [k for k, v in given.items() if v.dtype not in _alike(wanted[k].dtype)]
    if foreign:
        kinds = [f"{k} ({_name(given[k].dtype)} for {_name(wanted[k].dtype)})" for k in foreign]
        raise MissingError(f"{Path(path)} holds another kind of numbers than the network in {some(kinds)}")
    cast = {k: v.to(wanted[k].dtype) for k, v in given.items()}
    bad = [
        k if _is_bad(given[k]) else f"{k} ({_name(given[k].dtype)}, too large for {_name(v.dtype)})"
        for k, v in cast.items()
        if v.is_floating_point() and _is_bad(v)
    ]
    if bad:
        raise MissingError(f"{Path(path)} holds NaN or infinite weights in {some(bad)}")
    model.load_state_dict({k: cast.get(k, wanted[k]) for k in wanted}, strict=True)


_FLOATS = frozenset({torch.float16, torch.bfloat16, torch.float32, torch.float64})
_WHOLE = frozenset({torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64})


def _alike(wanted: torch.dtype) -> frozenset[torch.dtype]:
    """The kinds of numbers that can stand for one: floats for floats, whole for whole, else the same."""
    return next((kinds for kinds in (_FLOATS, _WHOLE) if wanted in kinds), frozenset({wanted}))


def _is_bad(value: Tensor) -> bool:
    return not bool(torch.isfinite(value).all())


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _hint(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """What to do about weights that do not fit."""
    try:
        held = infer(given)
    except KdstatsError:
        return "Name the right architecture with --arch."
    try:
        meant = infer(wanted)
    except KdstatsError:  # a network of the user's own
        meant = None
    if meant is not None and meant.name == held.name:
        return f"The file holds {held}, not {meant}."
    return f"The file holds {held}; name it with --arch {held.name}."


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
