"""A bug within a real worker, whose exception contains a credential or a prompt."""

from pathlib import Path

import platform_app

BUG_MODEL = "a-model-that-meets-a-bug"
# A module that Python imports by itself when it is on the path: the only way to put a bug into a real worker.
BUG = f'''
import sys

sys.path.insert(0, {str(Path(platform_app.__file__).parents[1])!r})  # not yet there, so early
import platform_app.llm.providers.openai.adapter as adapter

send = adapter.OpenAIAdapter.send

class BuggyRest:
    def __init__(self, rest):
        self.aclose = rest.aclose

    async def __anext__(self):
        raise LookupError("a bug in the middle of a stream")

async def buggy_send(self, call, credential):
    if call.model == "{BUG_MODEL}":
        prompt = str(call.body)
        if call.body.get("seed") == 7:
            {{}}[prompt]
        raise RuntimeError(f"a bug near {{credential}}")
    answer = await send(self, call, credential)
    if call.body.get("seed") == 13:
        answer._rest = BuggyRest(answer._rest)
    return answer

adapter.OpenAIAdapter.send = buggy_send
'''
