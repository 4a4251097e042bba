"""The study file as a JSON schema, for editors that complete and check while one types.

python -m runners.study.schema   # writes runners/studies/study.schema.json
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kdstats.records.atomic import write_bytes_atomic
from runners.study_file import VARIED, StudyFile

SCHEMA = Path(__file__).resolve().parent.parent / "studies" / "study.schema.json"


def text() -> str:
    """The schema, made from the same models that check a file."""
    schema: dict[str, Any] = StudyFile.model_json_schema(by_alias=True)
    head = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "kdstats study",
        "description": "A study of python -m runners.study",
    }
    # What a variant changes are keys of the sections themselves, none of which it must give.
    own = schema["$defs"]["VariantSection"]["properties"]
    for section in VARIED:
        keys = schema["$defs"][f"{section.capitalize()}Section"]
        own[section] = {"description": own[section]["description"]} | {
            key: keys[key] for key in ("type", "additionalProperties", "properties")
        }
    rest = {k: v for k, v in schema.items() if k not in head}
    return json.dumps(head | rest, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    write_bytes_atomic(SCHEMA, text().encode())
