"""How expressions are prepared for their execution."""

from tests.support.observability.expressions import Expression, queries_of, without_comparisons


def test_comparison_keeps_all_series() -> None:
    assert without_comparisons('a{b!="c"} > 1 and d <= bool 2') == 'a{b!="c"} > bool 1 and d <= bool 2'
    assert without_comparisons("a > 1 unless b == 1") == "a > bool 1 unless b == 1"


def test_blocks_of_runbooks_are_split_into_queries() -> None:
    block = "# what\nsum(a)\n  / sum(b)\nsum by (c) (\n  d\n)\nand e > 1\nf\n"
    assert list(queries_of(block)) == ["sum(a)\n  / sum(b)", "sum by (c) (\n  d\n)\nand e > 1", "f"]


def test_placeholder_of_a_runbook_matches_every_value() -> None:
    assert Expression("", 'a{provider="PROVIDER", outcome="ok"}').executed() == 'a{provider=~".*", outcome="ok"}'
