"""The limiter's Lua scripts (rate_limit/lua)."""

from importlib.resources import files

from platform_app.redis.scripts import Script, make_script


def _load(*names: str) -> Script:
    """Return the script of these files, in this order, behind the functions that all scripts share."""
    package = files("platform_app.rate_limit") / "lua"
    parts = ((package / f"{name}.lua").read_text(encoding="utf-8") for name in ("sliding_window", *names))
    return make_script("".join(parts))


ACQUIRE, SETTLE, RENEW, READ = (_load(name) for name in ("acquire", "settle", "renew", "read"))
SETTLE_ONCE = _load("once", "settle")
SEED = _load("seed")
ALL = (ACQUIRE, SETTLE, RENEW, READ, SETTLE_ONCE, SEED)
