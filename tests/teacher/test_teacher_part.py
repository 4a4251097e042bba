"""A part of a set is measured as a set of its own: what was held out is neither shown to the teacher nor counted."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from kdstats import data
from kdstats.data import ImageSet
from kdstats.teacher.evaluate import measure
from kdstats.teacher.load import load_network


@pytest.mark.parametrize("protocol", ["wang2022", "efficient"])
def test_held_out_images_are_not_measured(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, test = data.load("digits"), data.load("digits", "test")
    held, rest = whole.divide(0.25)
    seen: set[int] = set()
    batches = ImageSet.batches

    def spy(images: ImageSet, *asked: Any) -> Any:
        for batch in batches(images, *asked):
            if images.split == "train":
                seen.update(batch.sample_id.tolist())
            yield batch

    monkeypatch.setattr(ImageSet, "batches", spy)
    teacher = load_network(None, None, whole, torch.device("cpu"))
    seen.clear()
    options: dict[str, Any] = {"pools": 5} if protocol == "wang2022" else {"tol": 0.9}
    found = measure(["cutmix"], rest, test, teacher, None, protocol=protocol, seed=4, **options)
    assert not seen & set(held.sample_id.tolist())
    # Five pools are 25 batches of 64, more than the part has images.
    assert seen == set(rest.sample_id.tolist())
    said = found.to_dict()
    assert (said["dataset"]["n"], said["dataset"]["sha256"]) == (len(rest), rest.digest)
    more = measure(["cutmix"], whole, test, teacher, None, protocol=protocol, seed=4, **options)
    assert more.results[0].t_stddev.value != found.results[0].t_stddev.value
