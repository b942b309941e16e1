"""The alert rules and runbook queries with every window divided by the drill's factor."""

from alerts.durations import scaled_expression
from alerts.rules import Options, rules_text


def scaled_query(query: str, factor: int) -> str:
    """Return the query with its ranges divided by the factor."""
    return scaled_expression(query, factor)


def scaled_rules(factor: int) -> str:
    """Return the text of the rule file with its windows divided by the factor."""
    return rules_text(Options(scale=factor))
