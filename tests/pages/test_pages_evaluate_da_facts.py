from __future__ import annotations

import pytest

from kdstats.pages import evaluate_da_facts as facts


def made(
    parts: dict[str, tuple[float, float, float, float]], relative=(-0.1, -0.12, -0.08), **changes
) -> dict:
    """A document of which only what the sentences need is there."""
    keys = ("var_original", "var_augmented", "cov_views", "cov_cross")
    rows = [
        {
            "scheme": name,
            "t_stddev": sum(values) ** 0.5,
            "low": 0.98 * sum(values) ** 0.5,
            "high": 1.02 * sum(values) ** 0.5,
            "components": dict(zip(keys, values, strict=True)),
            "pools": 7,
            "stopped": "tol",
            "confidence": 0.95,
        }
        for name, values in parts.items()
    ]
    middle, low, high = relative
    names = [name for name in parts if name != "identity"]
    return {
        "results": rows,
        "comparisons": [
            {"a": n, "relative": middle, "relative_low": low, "relative_high": high, "low": low, "high": high}
            for n in names
        ],
        "lowest": dict.fromkeys(parts, 0.5) | {names[0]: 0.9996} if names else {"identity": 1.0},
        "definition": {"protocol": "efficient"},
        "shared": {"tol": 0.02},
        **changes,
    }


IDENTITY = (1.0, 1.0, 2.0, -0.5)


@pytest.mark.parametrize(
    ("parts", "spread", "effect", "said"),
    [
        # Everything 0.8 of identity but the design effect: plain softening is all softer views.
        ((0.8, 0.8, 1.6, -0.4), 0.8, 1.0, "All of its gain over identity is softer views, none is less"),
        ((1.0, 1.0, 1.0, -0.5), 1.0, 2.5 / 3.5, "All of its gain over identity is less dependence, none"),
        ((0.9, 0.9, 1.6, -0.56), 0.9, 2.84 / 3.5 / 0.9, "50 % is softer views, 50 % less dependence"),
    ],
)
def test_the_gain_is_split_as_its_formula_says(parts, spread, effect, said):
    document = made({"a": parts, "identity": IDENTITY})
    split = facts.gain(document, "a")
    assert split.total == pytest.approx(sum(parts) / sum(IDENTITY))
    assert split.spread == pytest.approx(spread)
    assert split.design_effect == pytest.approx(effect)
    assert said in facts.lowest(document)
    assert facts.lowest(document).startswith("Lowest: a (P > 0.999).")


def test_no_gain_is_explained_where_there_may_be_none():
    document = made({"a": (1.0, 0.9, 1.9, -0.5), "identity": IDENTITY}, relative=(-0.01, -0.03, 0.01))
    assert "−1.0 % [−3.0, +1.0], may be none" in facts.lowest(document)
    assert "softer" not in facts.lowest(document)


def test_identity_may_be_the_lowest_or_alone():
    document = made({"a": (1.0, 1.1, 2.1, -0.5), "identity": IDENTITY})
    assert facts.gain(document, "a") is None
    assert facts.lowest(document).startswith("Lowest: identity (P = 0.5). No scheme measured here")
    assert facts.lowest(made({"identity": IDENTITY})).startswith("Only identity was measured")


def test_stopping_short_is_said_with_the_widest_interval():
    document = made({"a": (1.0, 0.7, 1.3, -0.5), "identity": IDENTITY})
    assert facts.stopping(document) == ""
    for row in document["results"]:
        row["stopped"] = "pools"
    document["results"][0]["high"] *= 1.2
    said = facts.stopping(document)
    assert "Stopped after 7 pools" in said
    assert "before ±2 % was reached" in said
    assert "that of a, is ±11 %" in said


def test_numbers_as_people_write_them():
    assert facts.signed(-0.04) == "+0.0"
    assert facts.signed(-31.62) == "−31.6"
    assert facts.probability_text(0.0001) == "P < 0.001"
    assert facts.probability_text(0.925) == "P = 0.925"
    assert facts.duration(3.21) == "3.2 s"
    assert facts.duration(112.2) == "1 min 52 s"
    assert facts.duration(59.99) == "1 min 0 s"
    tiny = made({"a": (1e-6, 1e-6, 1e-6, 1e-6)})
    assert facts.digits(tiny) == 6  # 0.002000
    assert facts.digits(made({"a": IDENTITY})) == 3


def test_the_worth_is_computed_from_the_published_panels(monkeypatch):
    assert facts.worth(0) == (
        "What this has been worth: lowest T. stddev was the best scheme in 9 of 10 published panels; "
        "on ImageNet it cost 0.015–0.024 nats."
    )
    from kdstats.association import worth

    monkeypatch.setattr(worth, "published_sentence", lambda result: f"{result.hits} of {result.k}")
    assert facts.worth(0) == "What this has been worth: 9 of 10."
