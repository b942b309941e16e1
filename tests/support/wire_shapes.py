"""Requests as OpenAI clients write them, as bytes: each must reach a provider as it is, and so must its answer."""

from collections.abc import Mapping
from dataclasses import dataclass

CHAT, EMBEDDINGS = "/chat/completions", "/embeddings"
MODEL = "sim-ok@wire"
_IMAGE = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAAAElFTkSuQmCC"
_HELLO = '"messages":[{"role":"user","content":"Hello, world"}]'
_TOOLS = (
    '"tools":[{"type":"function","function":{"name":"weather","description":"Now","strict":true,"parameters":'
    '{"type":"object","properties":{"city":{"type":"string"},"unit":{"enum":["C","F"]}},"required":["city","unit"],'
    '"additionalProperties":false}}},{"type":"function","function":{"name":"time","parameters":{"type":"object",'
    '"properties":{}}}}]'
)
_SCHEMA = (
    '"response_format":{"type":"json_schema","json_schema":{"name":"person","strict":true,"schema":{"type":"object",'
    '"properties":{"name":{"type":"string"},"age":{"type":"integer"}},"required":["name","age"],'
    '"additionalProperties":false}}}'
)


@dataclass(frozen=True)
class Shape:
    """One request; `{model}` in its body is the model's name."""

    fields: str
    path: str = CHAT
    model: str = MODEL
    head: str = '"model":"{model}",'
    """What comes first."""

    def body(self, model: str) -> bytes:
        """The request for a model of this name."""
        return ("{" + self.head.replace("{model}", model) + self.fields + "}").encode()


SHAPES: Mapping[str, Shape] = {
    "plain": Shape(_HELLO),
    "pretty, with the model last": Shape(f'\n  {_HELLO},\n  "model" : "{MODEL}"\n', head=""),
    "every role": Shape(
        '"messages":[{"role":"developer","content":"Be brief."},{"role":"system","content":'
        '[{"type":"text","text":"x"}]},'
        '{"role":"user","name":"ann","content":"Hello"},{"role":"assistant","content":null,"refusal":"No."},'
        '{"role":"user","content":"Why?"}]'
    ),
    "tools": Shape(f'"messages":[{{"role":"user","content":"call:weather"}}],{_TOOLS},"tool_choice":"auto","seed":1'),
    "parallel tool calls": Shape(
        f'"messages":[{{"role":"user","content":"call:weather,time"}}],{_TOOLS},"parallel_tool_calls":true,"seed":1'
    ),
    "parallel tool calls, streamed": Shape(
        f'"messages":[{{"role":"user","content":"call:weather,time"}}],{_TOOLS},"stream":true,"seed":1'
    ),
    "a named tool": Shape(
        f'{_HELLO},{_TOOLS},"tool_choice":{{"type":"function","function":{{"name":"time"}}}},"seed":1'
    ),
    "a tool's result": Shape(
        '"messages":[{"role":"user","content":"call:time"},{"role":"assistant","content":null,"tool_calls":[{"id":"call_1",'
        '"type":"function","function":{"name":"time","arguments":"{\\"zone\\": \\"UTC\\", \\"at\\": 1.0}"}}]},'
        f'{{"role":"tool","tool_call_id":"call_1","content":"noon"}}],{_TOOLS}'
    ),
    "an image as a URL": Shape(
        '"messages":[{"role":"user","content":[{"type":"text","text":"What is it?"},{"type":"image_url","image_url":'
        '{"url":"https://example.com/a.png?b=1&c=%20","detail":"low"}}]}]'
    ),
    "an image in the body": Shape(
        f'"messages":[{{"role":"user","content":[{{"type":"image_url","image_url":{{"url":"{_IMAGE}"}}}}]}}]'
    ),
    "an audio part": Shape(
        '"messages":[{"role":"user","content":[{"type":"input_audio","input_audio":{"data":"UklGRg==","format":"wav"}}]}],'
        '"modalities":["text","audio"],"audio":{"voice":"alloy","format":"wav"}'
    ),
    "a file part": Shape(
        '"messages":[{"role":"user","content":[{"type":"file","file":{"filename":"a.pdf","file_data":"data:,x"}}]}]'
    ),
    "structured output": Shape(f"{_HELLO},{_SCHEMA}"),
    "structured output, streamed": Shape(f'{_HELLO},{_SCHEMA},"stream":true'),
    "any JSON": Shape(f'{_HELLO},"response_format":{{"type":"json_object"}}'),
    "logprobs": Shape(f'{_HELLO},"logprobs":true,"top_logprobs":5'),
    "logprobs, streamed": Shape(f'{_HELLO},"logprobs":true,"stream":true'),
    "reasoning": Shape(f'{_HELLO},"reasoning_effort":"high","max_completion_tokens":64,"verbosity":"low"'),
    "reasoning, streamed": Shape(f'{_HELLO},"reasoning_effort":"low","stream":true'),
    "a refusal, streamed": Shape('"messages":[{"role":"user","content":"refuse: it"}],"stream":true'),
    "several choices": Shape(f'{_HELLO},"n":3,"seed":42'),
    "several choices, streamed": Shape(f'{_HELLO},"n":2,"stream":true'),
    "a stop and a limit": Shape(f'{_HELLO},"stop":[" world","\\n"],"max_tokens":5'),
    "one stop": Shape(f'{_HELLO},"stop":","'),
    "streamed": Shape(f'{_HELLO},"stream":true'),
    "streamed, with usage": Shape(f'{_HELLO},"stream":true,"stream_options":{{"include_usage":true}}'),
    "streamed, without usage": Shape(
        f'{_HELLO},"stream":true,"stream_options":{{"include_usage":false,"include_obfuscation":false}}'
    ),
    "not streamed, said so": Shape(f'"stream":false,"stream_options":null,{_HELLO}'),
    "long, streamed": Shape('"messages":[{"role":"user","content":"tokens:500"}],"stream":true'),
    "fields of tomorrow": Shape(
        f'{_HELLO},"zz_new":{{"b":[1,{{"a":null}}],"a":"x"}},"provider":{{"order":["a"]}},"top_k":40,"extra_body":{{}}'
    ),
    "all of the plain fields": Shape(
        f'{_HELLO},"temperature":0.7,"top_p":1,"presence_penalty":-2.0,"frequency_penalty":0,"logit_bias":{{"50256":-100}},'
        '"user":"u-1","metadata":{"a":"b"},"store":false,"service_tier":"auto","prompt_cache_key":"k",'
        '"safety_identifier":"s","prediction":{"type":"content","content":"x"},"web_search_options":{}'
    ),
    "unicode": Shape(
        '"messages":[{"role":"user","content":"caf\\u00e9 \\ud83d\\ude00 \\u0000 \\u2028 \\/ \\"q\\" \\\\ 漢字 é"}],'
        '"user":"ключ","metadata":{"\\u00e9":"\u00e9\\t\\b\\f"}'
    ),
    "unicode, streamed": Shape(
        '"messages":[{"role":"user","content":"\U0001f600\U0001f600 漢字かな \\u2029"}],"stream":true'
    ),
    "numbers": Shape(
        f'{_HELLO},"temperature":1.0,"top_p":1e-7,"seed":9007199254740993,"numbers":[0,-1,0.1,1E5,1e-300,1.7976931348623157e308,'
        "18446744073709551615,-9223372036854775808,2.50,-0.0,123456789012345678.5,12345678901234567890.0]"
    ),
    "nulls": Shape(
        f'{_HELLO},"stop":null,"n":null,"tools":null,"tool_choice":null,"user":null,"stream":null,"stream_options":null'
    ),
    "empty things": Shape(
        '"messages":[{"role":"user","content":""},{"role":"assistant","content":[],"tool_calls":[]},'
        '{"role":"user","content":"Hello"}],"user":"","tools":[],"metadata":{},"":""'
    ),
    "digits in a text": Shape('"messages":[{"role":"user","content":"Is 123456789012345678901234567890 prime?"}]'),
    "deep": Shape(f'{_HELLO},"deep":{"[" * 250}{"]" * 250}'),
    "embeddings of a text": Shape('"input":"Hello","encoding_format":"float","dimensions":8', EMBEDDINGS),
    "embeddings in base64": Shape('"input":["a","b",""],"encoding_format":"base64"', EMBEDDINGS),
    "embeddings of tokens": Shape('"input":[[1,2,3],[50256]],"user":"u","dimensions":4', EMBEDDINGS),
    "embeddings of one list of tokens": Shape('"input":[1,2,3],"dimensions":4,"new":{"z":1,"a":[]}', EMBEDDINGS),
}
"""Requests that are answered."""

REFUSED: Mapping[str, Shape] = {
    "a value out of range": Shape(f'{_HELLO},"n":0'),
    "a value out of range, streamed": Shape(f'{_HELLO},"max_tokens":-1,"stream":true'),
    "a tool that is not there": Shape(
        f'{_HELLO},{_TOOLS},"tool_choice":{{"type":"function","function":{{"name":"x"}}}}'
    ),
    "a temperature": Shape(f'{_HELLO},"temperature":3', model="sim-bad-request"),
    "a prompt that is too long": Shape(_HELLO, model="sim-context-length"),
    "a prompt that is filtered": Shape(f'{_HELLO},"stream":true', model="sim-content-filter"),
    "dimensions": Shape('"input":"Hello","dimensions":0', EMBEDDINGS),
    "an encoding": Shape('"input":"Hello","encoding_format":"hex"', EMBEDDINGS),
}
"""Requests that a provider answers with 400."""
