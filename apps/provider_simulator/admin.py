"""The simulator's admin endpoints over HTTP: the requests that it received, and faults to switch on and off."""

import orjson
from aiohttp import web

from apps.provider_simulator.faults.catalog import UnknownFaultError
from apps.provider_simulator.faults.faults import REDIRECTED_PATH
from apps.provider_simulator.faults.switch import FaultSwitch
from apps.provider_simulator.formats.responses.store import ResponseStore
from apps.provider_simulator.record import Ledger


def administer(request: web.BaseRequest, ledger: Ledger, switch: FaultSwitch, stored: ResponseStore) -> web.Response:
    """Serve `GET requests` (`?model=`, `?tail=<n>`), `GET stats`, `POST fault` (`?fault=<fault>` with `&model=`, or for
    all models; without a fault: switch all off), `POST reset`, and the target of the fault `redirect`."""
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
        case "POST", "/_sim/fault":
            return _switch_fault(request, switch)
        case "POST", "/_sim/reset":
            ledger.reset()
            switch.clear()
            stored.clear()
            return _json({"reset": True})
        case _:
            return _json({"error": f"no such admin endpoint: {request.method} {request.path}"}, status=404)


def _switch_fault(request: web.BaseRequest, switch: FaultSwitch) -> web.Response:
    fault = request.query.get("fault")
    if fault is None:
        switch.clear()
        return _json({"fault": None})
    try:
        switch.set(fault, request.query.get("model", ""))
    except UnknownFaultError as error:
        return _json({"error": str(error)}, status=400)
    return _json({"fault": fault})


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")
