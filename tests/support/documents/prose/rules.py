"""The words and patterns that the project's prose does not use, each with what to write instead.

A rule exists because readers had to decode the word: it has several meanings, it is not the field's word, or it hides
the actor. Text in backticks and code blocks is exempt, because it names identifiers.
"""

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """A pattern that is not used, and what to write instead."""

    pattern: re.Pattern[str]
    instead: str

    def __str__(self) -> str:
        return f"{self.pattern.pattern!r}: {self.instead}"


def _rule(pattern: str, instead: str) -> Rule:
    return Rule(re.compile(rf"\b(?:{pattern})\b", re.I), instead)


RULES = (
    _rule(r"answer(?:s|ed|ing)?", "write response, or completion for the text of a model"),
    _rule(r"pieces?", "write chunk, part or segment"),
    _rule(r"silen(?:ce|ces|t)", "write idle, or that nothing is sent"),
    _rule(r"patien(?:ce|t|tly)", "write timeout, or generous timeout"),
    _rule(r"departures?", "write disconnect"),
    _rule(r"questions?(?! mark)", "write request, command or query"),
    _rule(r"tells?|told|telling", "write say, return, notify or distinguish"),
    _rule(r"mends?|mended|mending", "write fix"),
    _rule(r"anew|afresh", "write again, new or from zero"),
    _rule(r"(?:go|goes|going|went|gone) on", "write continue, or pass to"),
    _rule(r"stands? (?:twice|there|beside|beneath|behind)", "write occurs, is in or is next to"),
    _rule(r"whoever|somebody|nobody|everybody|anybody|no one|one's|oneself", "name the actor"),
    _rule(r"of (?:its|their|our|his|your|my) own(?! owner)", "write own, separate or dedicated"),
    _rule(r"(?:that|which|it|this) (?:is|are) (?:(?-i:none)|no(?! longer| more))", "say what it is"),
    _rule(r"(?:it|this|that) is over", "say what has ended"),
    _rule(r"bad day|good word|in vain|clothes|goodbye|word of mouth", "name the mechanism"),
    _rule(r"(?:no|the|own|last) words?(?= (?:of|on|from|for|is|comes)\b)", "write message or notice"),
    _rule(r"for so long|so much|however many|ever more", "state the bound"),
    _rule(r"in the (?:end|very)", "write finally, or name the moment"),
)
"""Order has no meaning. A new rule needs its alternative."""

ANY_RULE = re.compile("|".join(rule.pattern.pattern for rule in RULES), re.I)

IN_NAMES = (
    _rule(r"answer(?:s|ed|ing)?", "response"),
    _rule(r"pieces?", "chunk or part"),
    _rule(r"silen(?:ce|t)", "idle"),
    _rule(r"patien(?:ce|t)", "timeout"),
    _rule(r"questions?", "command or request"),
    _rule(r"tells?|told", "says, notifies, returns"),
    _rule(r"mends?|mended", "fixes"),
    _rule(r"anew", "again"),
    _rule(r"whoever|somebody|nobody|everybody|anybody", "the actor"),
    _rule(r"goes on|go on|is none|is no|of its own", "the behaviour"),
)
"""Words that test names do not use, with the words that they do."""

EXEMPT = (
    ("docs/resilience.md", "S08 Stream cut mid-answer", "the public benchmark's name of the scenario"),
    ("platform_app/idempotency/record.lua", "'answer', the response", "the name of a field in stored records"),
)
"""Path, a part of the text, and the reason why this text keeps its word."""
