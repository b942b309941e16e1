"""One session of an agent, and what must have happened in it."""

import asyncio
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from tests.clients.agents.agent import AFTER, BEFORE, FILE, NOTE, NOTED, SCRATCH, Agent, Place, Transcript
from tests.clients.agents.stage import Stage
from tests.support.ledger.usage.records import usage_of

SESSION_SECONDS = 300
TURNS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a session did; `faults` are the demands that were not met."""

    agent: str
    wire: str
    transcript: Transcript
    seconds: float
    records: Sequence[asyncpg.Record]
    faults: Sequence[str]


def run_session(agent: Agent, programs: Path, wire: str, stage: Stage, directory: Path) -> Outcome:
    """Run one session in separate folders, and compare what it left with what the script says."""
    key = stage.new_key()
    place = Place(directory / "home", directory / SCRATCH, stage.gateway.base_url, key.key, f"agent-{wire}")
    for folder in (place.home, place.work):
        folder.mkdir(parents=True)
    (place.work / FILE).write_text(BEFORE)
    environment = {"PATH": os.environ["PATH"], "HOME": str(place.home), **agent.prepare(place)}
    prompt = f"script:{json.dumps(agent.turns(place.work))}"
    began = time.monotonic()
    output = _run(agent.command(programs, place, prompt), environment, place.work)
    seconds = time.monotonic() - began
    (directory / "output.jsonl").write_text(output)
    transcript = agent.read(output)
    faults = list(_faults(place, transcript))
    records = [] if faults else asyncio.run(usage_of(stage.platform, key, TURNS))
    faults += _record_faults(records, wire, transcript.session) if records else []
    return Outcome(agent.name, wire, transcript, seconds, records, faults)


def _run(command: Sequence[str], environment: Mapping[str, str], work: Path) -> str:
    """Return what the command printed; end it with all of its processes when its time is up."""
    process = subprocess.Popen(
        command,
        cwd=work,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        return process.communicate(timeout=SESSION_SECONDS)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return f"{process.communicate()[0]}\nthe session did not end within {SESSION_SECONDS} s\n"


def _faults(place: Place, transcript: Transcript) -> Iterator[str]:
    said = "\n".join(text for _, text in transcript.lines)
    printed = hashlib.sha256((AFTER + NOTED).encode()).hexdigest()
    if BEFORE.strip() not in said:
        yield f"the agent did not read {FILE}"
    if (place.work / FILE).read_text() != AFTER:
        yield f"{FILE} was not edited"
    if not (place.work / NOTE).is_file() or (place.work / NOTE).read_text() != NOTED:
        yield f"{NOTE} was not written"
    if printed not in "".join(text for who, text in transcript.lines if who == "gets"):
        yield "the command's output did not reach the agent"
    if printed not in transcript.final:
        yield f"the final text lacks the command's output: {transcript.final!r}"
    if not transcript.session:
        yield "the agent named no session"
    yield from (text for who, text in transcript.lines if who == "fails")


def _record_faults(records: Sequence[asyncpg.Record], wire: str, session: str) -> Iterator[str]:
    if len(records) != TURNS:
        yield f"{len(records)} usage records instead of {TURNS}"
    for record in records:
        if record["provider"] != wire:
            yield f"a request was served by {record['provider']}, not {wire}"
        if not (record["prompt_tokens"] and record["completion_tokens"]):
            yield "a usage record has no tokens"
        if record["session"] != session:
            yield f"a usage record has the session {record['session']!r}, not {session!r}"
