"""The simulator's admin endpoints: the requests that it received, over HTTP."""

import orjson
from aiohttp import web

from apps.provider_simulator.faults.faults import REDIRECTED_PATH
from apps.provider_simulator.record import Ledger


def administer(request: web.BaseRequest, ledger: Ledger) -> web.Response:
    """Serve `GET requests` (`?model=`, `?tail=<n>`), `GET stats`, `POST reset`, and the target of the fault
    `redirect`."""
    if request.path.startswith(REDIRECTED_PATH):
        ledger.followed_redirect(request.query.get("model", ""))
        return _json({"followed": True})
    match request.method, request.path:
        case "GET", "/_sim/requests":
            records = ledger.requests(request.query.get("model"))
            tail = request.query.get("tail", "")
            if tail.isdecimal():
                records = records[max(0, len(records) - int(tail)) :]
            return _json([record.to_json() for record in records])
        case "GET", "/_sim/stats":
            return _json(ledger.stats())
        case "POST", "/_sim/reset":
            ledger.reset()
            return _json({"reset": True})
        case _:
            return _json({"error": f"no such admin endpoint: {request.method} {request.path}"}, status=404)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
