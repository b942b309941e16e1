"""Bugs within a real worker: exceptions, log lines and warnings that contain a credential or a prompt."""

from pathlib import Path

import platform_app

BUG_MODEL = "a-model-that-meets-a-bug"
LEAK_SEED = 21
"""The seed of a request whose adapter leaks in every way."""
WIRES = {name: f"{name.upper()}_CANARY_KEY" for name in ("simulator", "azure", "anthropic", "responses")}
"""The secret of each wire format's provider."""
LEAKED = (*WIRES.values(), "PLATFORM_API_KEY_PEPPER", "PLATFORM_DATABASE_URL", "PLATFORM_REDIS_URL")
"""Environment variables with secrets."""
STACKS = ".stacks"
"""The suffix, after the name of the config file, of the file with what faulthandler wrote."""
# A module that Python imports by itself when it is on the path: the only way to put a bug into a real worker.
BUG = f'''
import asyncio
import faulthandler
import gc
import logging
import os
import sys
import threading
import warnings

sys.path.insert(0, {str(Path(platform_app.__file__).parents[1])!r})  # not yet there, so early
import structlog

import platform_app.llm.providers.openai.adapter as adapter

send = adapter.OpenAIAdapter.send

class BuggyRest:
    def __init__(self, rest):
        self.aclose = rest.aclose

    async def __anext__(self):
        raise LookupError("a bug in the middle of a stream")

def fail(text):
    raise KeyError(text)

async def fail_later(text):
    fail(text)

class BadDestructor:
    def __init__(self, text):
        self.text = text

    def __repr__(self):
        return self.text

    def __del__(self):
        fail(self.text)

def log_library_errors(url):
    """Log exceptions whose messages contain a URL with a password, or the parameters of a statement."""
    import aiohttp
    import sqlalchemy
    from sqlalchemy.exc import StatementError

    logger = logging.getLogger("library")
    for error in (
        aiohttp.InvalidURL(url, "no host"),
        aiohttp.ClientPayloadError("from " + url),
        StatementError("no connection to " + url, "SELECT :a", {{"a": url}}, OSError(url)),
    ):
        logger.error("call of a library failed: %s", error)
        try:
            raise error
        except Exception:
            logger.exception("call of a library failed")
            structlog.get_logger(component="library").exception("library_call_failed", detail=str(error))
    try:
        sqlalchemy.create_engine("no-dialect" + url)
    except Exception as error:
        logger.error("no engine: %r", error, exc_info=True)

async def leak(prompt):
    """Leak outside of the request: what a careless library and a careless line of code do."""
    known = [value for name, value in os.environ.items() if name in {LEAKED!r}]
    loop = asyncio.get_running_loop()
    for text in known:
        logging.getLogger("library").error("sending with %s", text)
        structlog.get_logger(component="gateway").error("call_failed", near=text, all={{text: [text]}})
        structlog.get_logger(component="gateway").error("near " + text)
        warnings.warn("deprecated: " + text)
    for text in known:
        if "://" in text:
            log_library_errors(text)
    for text in (*known, prompt):
        thread = threading.Thread(target=fail, args=(text,))
        thread.start()
        thread.join()
        loop.call_soon(fail, text)
        loop.create_task(fail_later(text))
        BadDestructor(text)
    with open(os.environ["PLATFORM_CONFIG_FILE"] + "{STACKS}", "w") as stacks:
        faulthandler.dump_traceback(stacks)
    for _ in range(3):
        await asyncio.sleep(0)
    gc.collect()

async def buggy_send(self, call, credential):
    if call.model == "{BUG_MODEL}":
        prompt = str(call.body)
        if call.body.get("seed") == {LEAK_SEED}:
            await leak(prompt)
        if call.body.get("seed") == 7:
            {{}}[prompt]
        raise RuntimeError(f"a bug near {{credential}}")
    answer = await send(self, call, credential)
    if call.body.get("seed") == 13:
        answer._rest = BuggyRest(answer._rest)
    return answer

adapter.OpenAIAdapter.send = buggy_send
'''
