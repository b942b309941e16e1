"""A log line for a person at a terminal: aligned columns, the level in colour, and few fields.

    12:00:00.123 info    200 POST /v1/platform/chat         12.3 ms  model=sim-ok provider=simulator  #0af76519
    12:00:00.124 warning limiter_degraded                   error=ConnectionError
    12:00:00.125 error   unhandled_error                    error=RuntimeError  #0af7651916cd43dd8448eb211c80319c
        /srv/platform_app/chat.py:81 send

Only the locations of an exception take further lines. They are indented, so no field can forge a line.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from structlog.typing import EventDict

from platform_app.observability.logs.escaping import escape_text

_LEVEL_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}
_DIM, _BOLD = "2", "1"
_GREEN, _YELLOW, _RED = "32", "33", "31"
_EVENT_WIDTH = 34
_SHORT_ID = 8
_MAX_SHOWN = 5
"""Values of a list, as of the tables that the ledger created."""
_PROBES = frozenset({"/healthz", "/livez", "/readyz"})
_IDS = frozenset({"trace_id", "span_id", "key_id"})
"""The request id leads to these."""
_LOCATIONS = ("error_at", "stack")
_ACCESS_LEAD = frozenset({"method", "route", "status", "duration_ms", "decision"})
_MIN_HOP_MS = 0.1
"""Shorter hops are not shown."""


def console_line(event: EventDict, *, colours: bool = False) -> bytes:
    """Return the event as a line of text, with a line feed; nothing for a line that says nothing to a person. Never
    fails."""
    if event["level"] == "info" and _is_noise(event):
        return b""
    paint = _paint if colours else _plain
    level, moment = str(event.pop("level")), event.pop("timestamp")
    request_id = event.pop("request_id", None)
    locations = [place for name in _LOCATIONS for place in _list_of(event.pop(name, None))]
    component, name = event.pop("component", ""), _text(event.pop("event"))
    if component == "access" and name == "request":
        lead, shown = _access(event, level, paint)
    else:
        lead, shown = paint(name.ljust(_EVENT_WIDTH) if event else name, _BOLD), event
    fields = " ".join(
        f"{paint(f'{_text(key)}=', _DIM)}{_value(value)}"
        for key, value in shown.items()
        if value is not None and value != [] and key not in _IDS
    )
    line = (
        f"{paint(_time(moment), _DIM)} {paint(level.ljust(7), _LEVEL_COLOURS.get(level, ''))} {lead} {fields}".rstrip()
    )
    if request_id is not None:
        # The whole id, where a person will look for the request.
        text = _text(request_id)
        line += "  " + paint(f"#{text[:_SHORT_ID] if level in ('debug', 'info') else text}", _DIM)
    for place in locations:
        line += f"\n    {paint(_text(place), _DIM)}"
    return f"{line}\n".encode(errors="backslashreplace")


def _access(event: EventDict, level: str, paint: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the columns of an access line, and the fields that follow them."""
    status = int(event.get("status") or 0)
    colour = _GREEN if status < 400 else _YELLOW if status < 500 else _RED
    request = f"{event.get('method')} {event.get('route')}"
    duration = f"{event.get('duration_ms') or 0:9.1f} ms"
    lead = f"{paint(str(status), colour)} {_text(request):<{_EVENT_WIDTH - 4}} {duration} "
    skipped = set(_ACCESS_LEAD)
    if status < 400:
        skipped.add("upstream_request_id")
    if event.get("key_id") is not None or status < 400:
        skipped.add("client_address")
    shown: dict[str, Any] = {"reason": event.pop("reason", None)}
    for key, value in event.items():
        if key == "overhead_ms":
            shown["gateway"] = f"{value:.1f}ms" if isinstance(value, float) else value
        elif key == "hops" and isinstance(value, Mapping):
            hops = [
                f"{hop}:{ms:.1f}" for hop, ms in value.items() if isinstance(ms, (int, float)) and ms >= _MIN_HOP_MS
            ]
            shown["hops"] = ",".join(hops) or None
        elif key not in skipped and (key != "attempts" or (isinstance(value, int) and value > 1)):
            shown[key] = value
    return lead, shown


def _is_noise(event: EventDict) -> bool:
    """Return whether this is a successful probe, or a message of uvicorn about its start, which `worker_ready` says."""
    if event.get("component") == "access":
        return event.get("route") in _PROBES and event.get("status") == 200
    return event.get("component") == "uvicorn.error"


def _time(moment: object) -> str:
    if isinstance(moment, datetime):
        return moment.astimezone().strftime("%H:%M:%S.%f")[:-3]
    return _text(moment)


def _value(value: object) -> str:
    """Return a field's value; text with a space or a quote is quoted, so that the end of the field is visible."""
    if isinstance(value, (list, tuple)):
        more = [f"… {len(value) - _MAX_SHOWN} more"] if len(value) > _MAX_SHOWN else []
        return "; ".join([*(_text(each) for each in value[:_MAX_SHOWN]), *more])
    text = _text(value)
    return json.dumps(text, ensure_ascii=False) if not text or " " in text or '"' in text else text


def _list_of(value: object) -> list[object]:
    return list(value) if isinstance(value, (list, tuple)) else [] if value is None else [value]


def _text(value: object) -> str:
    try:
        return escape_text(str(value))
    except Exception:  # noqa: BLE001 - a value whose __str__ fails must not fail the log call
        return f"<{type(value).__name__}>"


def _plain(text: str, _: str) -> str:
    return text


def _paint(text: str, colour: str) -> str:
    return f"\x1b[{colour}m{text}\x1b[0m" if colour else text
