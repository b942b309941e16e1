"""Entry points: they know HTTP or the terminal, and nothing of SQL, Lua or provider SDKs."""

from pkgutil import extend_path

# flowbiz-ai-core ships a top-level package `apps` too; both stay importable (see editable_path_hook.py).
__path__ = extend_path(__path__, __name__)
