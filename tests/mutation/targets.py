"""The modules that are mutated, and the tests of each.

The tests of a module are those of its mirrored folder under `tests/unit`, with the folder above for a module that has
none. `MORE_TESTS` adds tests elsewhere. A module or a test that is gone is an error that names it.
"""

from pathlib import Path

from tests.support.paths import ROOT

MODULES = (
    "platform_app/auth/{authenticator,permissions,tokens,pepper,cache,throttled_lookups}.py",
    "platform_app/auth/keys/{rules,service}.py",
    "platform_app/rate_limit/{matching,service,known_denials,calendar,auth_failures}.py",
    "platform_app/rate_limit/limiters/{local,redis,failover,seeding}.py",
    "platform_app/metering.py",
    "platform_app/llm/usage/{counts,settlement,pricing,token_estimate}.py",
    "platform_app/llm/policies/*.py",
    "platform_app/llm/policies/choice/*.py",
    "platform_app/llm/models/stored_state.py",
    "platform_app/llm/translation/carried.py",
    "platform_app/idempotency/{service,in_flight}.py",
    "platform_app/ledger/spool/*.py",
    "apps/platform_api/security/*.py",
    "apps/platform_api/responses/stored/{ids,signing}.py",
    "apps/platform_api/server/{head,incoming_body}.py",
    "apps/platform_api/http/body/json_text.py",
    "platform_app/llm/codecs/value_count.py",
    "platform_app/observability/event_loop/turns.py",
)
"""Where an unnoticed fault costs money or admits an attacker."""

MORE_TESTS: dict[str, tuple[str, ...]] = {
    "platform_app/auth/keys/service.py": (
        "tests/integration/keys/test_changes.py", "tests/integration/keys/test_store.py",
        "tests/integration/keys/lifecycle/test_administrators.py",
    ),
    "platform_app/rate_limit/service.py": ("tests/unit/platform_app/llm/usage/test_unpriced_models.py",),
    "platform_app/rate_limit/limiters/redis.py": (
        "tests/integration/limits/scripts/test_reservations.py", "tests/integration/limits/scripts/test_windows.py",
        "tests/integration/limits/test_lost_reservations.py", "tests/integration/limits/test_orphans.py",
        "tests/integration/limits/test_full_redis.py", "tests/integration/limits/test_seeding.py",
    ),
    "platform_app/rate_limit/limiters/seeding.py": ("tests/integration/limits/test_seeding.py",),
    "platform_app/llm/codecs/value_count.py": ("tests/unit/apps/platform_api/http/body/test_json_text.py",),
    "platform_app/llm/policies/fallback.py": ("tests/unit/platform_app/llm/policies/choice/test_route_choice.py",),
}  # fmt: skip

LIMITS = "tests/integration/limits"
TEXTS: dict[str, tuple[str, ...]] = {
    "platform_app/rate_limit/lua/{sliding_window,acquire,read,renew,settle}.lua": (
        f"{LIMITS}/scripts/test_waits.py", f"{LIMITS}/scripts/test_holders.py",
        f"{LIMITS}/scripts/test_lifetimes.py", f"{LIMITS}/scripts/test_rescan_edges.py",
        f"{LIMITS}/scripts/test_replies.py", f"{LIMITS}/scripts/test_settlements.py",
        f"{LIMITS}/scripts/test_reservations.py", f"{LIMITS}/scripts/test_windows.py",
        f"{LIMITS}/test_lost_reservations.py", f"{LIMITS}/test_seeding.py",
    ),
    "platform_app/rate_limit/lua/seed.lua": (f"{LIMITS}/test_seeding.py",),
    "platform_app/rate_limit/lua/once.lua": (f"{LIMITS}/test_orphans.py",),
    "platform_app/idempotency/record.lua": (
        "tests/contract/test_idempotency_stores.py", "tests/integration/idempotency/test_full_redis.py",
    ),
    "alerts/platform.yml": ("tests/integration/observability/test_alert_edges.py",),  # and promtool's own tests
    "dashboards/{overview,providers,keys-limits,runtime}.json": ("tests/unit/test_operations_files.py",),
}  # fmt: skip
"""Files that are not Python, and the tests of each."""


def texts() -> dict[str, tuple[str, ...]]:
    """Return the tests of each file that is not Python."""
    found = {}
    for pattern, tests in TEXTS.items():
        for path in _alternatives(pattern):
            for needed in (path, *tests):
                if not (ROOT / needed).exists():
                    raise FileNotFoundError(f"tests/mutation/targets.py: no {needed}; name the file that has it now")
            found[path] = tests
    return found


def modules() -> list[str]:
    """Return the path of each module, relative to the root."""
    found = []
    for pattern in MODULES:
        for path in _alternatives(pattern):
            matched = sorted(ROOT.glob(path))
            if not matched:
                raise FileNotFoundError(
                    f"tests/mutation/targets.py: no module {path}; name the file that has its code now"
                )
            found += [str(file.relative_to(ROOT)) for file in matched if file.name != "__init__.py"]
    return found


def tests_of(module: str) -> list[str]:
    """Return the test files of a module, the one with its name first."""
    path = Path(module)
    folder = ROOT / "tests/unit" / path.parent
    while not any(folder.glob("test_*.py")):
        folder = folder.parent
    files = sorted(folder.glob("test_*.py"), key=lambda file: (path.stem not in file.stem, file.name))
    named = [str(file.relative_to(ROOT)) for file in files]
    for more in MORE_TESTS.get(module, ()):
        if not (ROOT / more).exists():
            raise FileNotFoundError(f"tests/mutation/targets.py: no test {more} for {module}")
        named.append(more)
    return named


def _alternatives(pattern: str) -> list[str]:
    """Expand `{a,b}`."""
    head, brace, rest = pattern.partition("{")
    if not brace:
        return [pattern]
    names, _, tail = rest.partition("}")
    return [f"{head}{name}{tail}" for name in names.split(",")]
