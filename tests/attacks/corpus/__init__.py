"""The attacks, as data: each says what is sent, and what must come back from a gateway without a proxy before it."""

from collections.abc import Mapping, Sequence

from tests.attacks.corpus import framing, sequences, syntax, targets, trailers, upgrade
from tests.attacks.corpus.case import Case

AREAS: Mapping[str, Sequence[Case]] = {
    "upgrade": tuple(upgrade.cases()),
    "trailers": tuple(trailers.cases()),
    "framing": tuple(framing.cases()),
    "syntax": tuple(syntax.cases()),
    "targets": tuple(targets.cases()),
    "sequences": tuple(sequences.cases()),
}
CORPUS: tuple[Case, ...] = tuple(case for cases in AREAS.values() for case in cases)
"""Every case; names are unique."""

assert len({case.name for case in CORPUS}) == len(CORPUS)
