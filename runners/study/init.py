"""``init``: any shipped study as a file to start from."""

from __future__ import annotations

import shutil
from pathlib import Path

from kdstats.errors import UsageError, unknown

_FOLDER = Path(__file__).resolve().parent.parent / "studies"
_DEFAULT = "quickstart"
_SCHEMA = "study.schema.json"


def templates() -> list[str]:
    """Names of the shipped studies."""
    return sorted(path.stem for path in _FOLDER.glob("*.toml"))


def init(file: Path, template: str | None) -> int:
    """Writes a template to ``file``; refuses to replace a file.

    ``init wang2022-cifar100`` writes that template to ``wang2022-cifar100.toml``; a file of another name starts
    from the quick study unless ``template`` says otherwise.

    Raises:
        UsageError: No such template, or the file exists.
    """
    if not file.suffix:
        template = template or file.name
        file = file.with_suffix(".toml")
    elif file.suffix != ".toml":
        raise UsageError(f"templates are TOML; name the file {file.stem}.toml, not {file.name}")
    template = template or (file.stem if file.stem in templates() else _DEFAULT)
    if template not in templates():
        raise unknown(
            "template",
            template,
            templates(),
            "`init NAME.toml` starts from the quick study under a name of yours.",
        )
    if file.exists():
        raise UsageError(f"{file} exists; name another file")
    if not file.parent.is_dir():
        raise UsageError(f"there is no folder {file.parent}")
    shutil.copyfile(_FOLDER / f"{template}.toml", file)
    schema = file.parent / _SCHEMA
    if not schema.exists():  # editors complete keys by it
        shutil.copyfile(_FOLDER / _SCHEMA, schema)
    print(f"{file} written from {template}. Next: python -m runners.study plan {file} --out runs/{file.stem}")
    return 0
