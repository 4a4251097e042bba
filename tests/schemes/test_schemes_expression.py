from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kdstats.errors import KdstatsError, UsageError
from kdstats.schemes.naming.expression import Expression, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cutmix", Expression("cutmix")),
        (" CutMix ", Expression("cutmix")),
        ("random-erasing", Expression("random_erasing")),
        ("cutmix@clovaai", Expression("cutmix", "clovaai")),
        ("cutmix(alpha=0.5)", Expression("cutmix", params=(("alpha", 0.5),))),
        ("cutmix@clovaai(p=1, alpha=2)", Expression("cutmix", "clovaai", (("alpha", 2), ("p", 1)))),
        (
            "x(a=-1, b=none, c=true, d=word, e='w')",
            Expression("x", params=(("a", -1), ("b", None), ("c", True), ("d", "word"), ("e", "w"))),
        ),
        ("x(r=(0.02, 1))", Expression("x", params=(("r", (0.02, 1.0)),))),
        ("pick(mixup)", Expression("pick", parts=(Expression("mixup"),))),
        (
            "pick(a+b, runs=3)",
            Expression(
                "pick",
                params=(("runs", 3),),
                parts=(Expression("+", parts=(Expression("a"), Expression("b"))),),
            ),
        ),
        ("a+b+c", Expression("+", parts=(Expression("a"), Expression("b"), Expression("c")))),
        ("a+(b+c)", Expression("+", parts=(Expression("a"), Expression("b"), Expression("c")))),
        ("a@p+b(k=1)", Expression("+", parts=(Expression("a", "p"), Expression("b", params=(("k", 1),))))),
    ],
)
def test_forms(text, expected):
    assert parse(text) == expected
    assert parse(str(expected)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "a" * 201,
        "a+",
        "a b",
        "a@",
        "@b",
        "a@b@c",
        "pick(a)@b",
        "a*b",
        "a-1",
        "a[0]",
        "a.b",
        "lambda: 0",
        "a(b=c(d))",
        "a(b=[1])",
        "a(b=(1, c))",
        "a(b=())",
        "a(**b)",
        "a(b=1, b=2)",
        "a()()",
        "__import__('os').system('x')",
        "a\x00b",
        "(" * 150,
        "a;b",
        "a\nb",
        "1",
        "'a'",
        "a(b=1j)",
    ],
)
def test_what_is_no_scheme(text):
    with pytest.raises(UsageError):
        parse(text)


def test_messages_help():
    with pytest.raises(UsageError, match=r"write for example cutmix, cutmix\(alpha=0.5\)"):
        parse("cutmix flip")
    with pytest.raises(UsageError, match=r"cutmix@clovaai\(…\)"):
        parse("cutmix(p=1)@clovaai")


WORDS = ("true", "false", "none")
names = st.from_regex(r"[a-z][a-z_]{0,8}", fullmatch=True).filter(
    lambda s: s not in WORDS and not keyword.iskeyword(s)
)
values = st.one_of(
    st.integers(-99, 99), st.floats(0.001, 99).map(lambda v: round(v, 4)), names, st.booleans(), st.none()
)
leaves = st.builds(
    lambda n, p, k: Expression(n, p, tuple(sorted(k.items()))),
    names.filter(lambda s: s != "pick"),
    st.one_of(st.just(""), names),
    st.dictionaries(names, values, max_size=2),
)


@given(leaves)
def test_what_is_written_is_read_again(expression):
    text = str(expression)
    if len(text) <= 200:
        found = parse(text)
        assert str(found) == text
        assert (found.name, found.preset) == (expression.name, expression.preset)


@given(st.text(max_size=40))
def test_any_text_is_a_scheme_or_a_usage_error(text):
    try:
        assert str(parse(str(parse(text)))) == str(parse(text))
    except KdstatsError as error:
        assert error.exit_code == 2
