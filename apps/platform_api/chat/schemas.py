"""The platform's own chat contract: the request that a client sends, and the shape of the response.

Messages are TypedDicts: pydantic validates them in place, and they are forwarded to the provider unchanged. Union tags
start with `@`, so that error paths can leave them out. Only the first problem of a list is reported, because a refusal
must not cost more than an accepted request.
"""

from typing import Annotated, Any, Literal, NotRequired, Required, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator, with_config
from typing_extensions import TypedDict

from platform_app.config import ModelName
from platform_app.credential_forms import holds_credential
from platform_app.observability import metrics

_STRICT = ConfigDict(extra="forbid")


def _without_key(value: str) -> str:
    if holds_credential(value.encode(errors="replace")):
        metrics.MISPLACED_CREDENTIALS.labels("conversation_id").inc()
        raise ValueError("holds an API key, and this text comes back in responses; leave the key out")
    return value


_Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]


@with_config(_STRICT)
class TextPart(TypedDict):
    """A text."""

    type: Literal["text"]
    text: str


@with_config(_STRICT)
class ImageUrl(TypedDict, total=False):
    """The URL of an image: an https URL, or a data: URL that contains the image."""

    url: Required[Annotated[str, Field(min_length=1)]]
    detail: Literal["auto", "low", "high"]


@with_config(_STRICT)
class ImagePart(TypedDict):
    """An image. The provider fetches it; the platform never does."""

    type: Literal["image_url"]
    image_url: ImageUrl


@with_config(_STRICT)
class FunctionCall(TypedDict):
    """The function that the model called, and its arguments (JSON as text)."""

    name: _Name
    arguments: str


@with_config(_STRICT)
class ToolCall(TypedDict):
    """One function call of the model."""

    id: str
    type: Literal["function"]
    function: FunctionCall


def _kind(value: object) -> str:
    return "@text" if isinstance(value, str) else "@parts"


def _part_type(value: object) -> str:
    return f"@{value.get('type')}" if isinstance(value, dict) else "@?"


_Parts = Annotated[
    list[
        Annotated[
            Annotated[TextPart, Tag("@text")] | Annotated[ImagePart, Tag("@image_url")],
            Discriminator(
                _part_type,
                custom_error_type="part_type",
                custom_error_message="expected an object with type 'text' or 'image_url'",
            ),
        ]
    ],
    Field(min_length=1, max_length=256, fail_fast=True),
]
_Content = Annotated[Annotated[str, Tag("@text")] | Annotated[_Parts, Tag("@parts")], Discriminator(_kind)]


@with_config(_STRICT)
class InstructionMessage(TypedDict):
    """An instruction of the application to the model."""

    role: Literal["system", "developer"]
    content: _Content
    name: NotRequired[_Name]


@with_config(_STRICT)
class UserMessage(TypedDict):
    """A message of the user."""

    role: Literal["user"]
    content: _Content
    name: NotRequired[_Name]


@with_config(_STRICT)
class AssistantMessage(TypedDict, total=False):
    """An earlier message of the model."""

    role: Required[Literal["assistant"]]
    content: _Content | None
    refusal: str | None
    name: _Name
    tool_calls: Annotated[list[ToolCall], Field(min_length=1, max_length=128, fail_fast=True)]


@with_config(_STRICT)
class ToolMessage(TypedDict):
    """The result of a tool."""

    role: Literal["tool"]
    content: _Content
    tool_call_id: str


def _role(value: object) -> str:
    role = value.get("role") if isinstance(value, dict) else None
    return {"system": "@instruction", "developer": "@instruction"}.get(str(role), f"@{role}")


Message = Annotated[
    Annotated[InstructionMessage, Tag("@instruction")]
    | Annotated[UserMessage, Tag("@user")]
    | Annotated[AssistantMessage, Tag("@assistant")]
    | Annotated[ToolMessage, Tag("@tool")],
    Discriminator(
        _role,
        custom_error_type="message_role",
        custom_error_message="expected an object with role system, developer, user, assistant or tool",
    ),
]


@with_config(_STRICT)
class FunctionDefinition(TypedDict, total=False):
    """A function that the model may call; `parameters` is a JSON Schema."""

    name: Required[_Name]
    description: str
    parameters: dict[str, Any]
    strict: bool | None


@with_config(_STRICT)
class Tool(TypedDict):
    """A tool that the model may use."""

    type: Literal["function"]
    function: FunctionDefinition


@with_config(_STRICT)
class NamedFunction(TypedDict):
    """A function by its name."""

    name: _Name


@with_config(_STRICT)
class NamedTool(TypedDict):
    """The tool that the model must use."""

    type: Literal["function"]
    function: NamedFunction


def _choice_kind(value: object) -> str:
    return "@word" if isinstance(value, str) else "@named"


_ToolChoice = Annotated[
    Annotated[Literal["none", "auto", "required"], Tag("@word")] | Annotated[NamedTool, Tag("@named")],
    Discriminator(_choice_kind),
]
_Stop = Annotated[
    Annotated[str, Tag("@text")]
    | Annotated[list[str], Field(min_length=1, max_length=4, fail_fast=True), Tag("@parts")],
    Discriminator(_kind),
]  # fmt: skip


@with_config(ConfigDict(extra="allow"))
class ResponseFormat(TypedDict):
    """`text`, `json_object`, or `json_schema` with its schema beside the type."""

    type: Literal["text", "json_object", "json_schema"]


class ChatRequestBody(BaseModel):
    """`POST /v1/platform/chat`: exactly one of `messages` and `prompt`."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    messages: Annotated[list[Message], Field(min_length=1, max_length=2048, fail_fast=True)] | None = Field(
        None, description="The conversation so far, in OpenAI's message shape."
    )
    prompt: Annotated[str, Field(min_length=1)] | None = Field(None, description="Shorthand for one user message.")
    model: ModelName | None = Field(
        None, description="A model of the catalog. Without it the platform's default model is used."
    )
    stream: bool = Field(False, description="Respond with server-sent events instead of one JSON object.")
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    stop: _Stop | None = None
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1)] | None = None
    tools: Annotated[list[Tool], Field(min_length=1, max_length=128, fail_fast=True)] | None = None
    tool_choice: _ToolChoice | None = None
    response_format: ResponseFormat | None = None
    conversation_id: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(_without_key)] | None = Field(
        None, description="Your id of the conversation; it is returned in the response."
    )
    metadata: (
        Annotated[
            dict[Annotated[str, Field(max_length=64)], Annotated[str, Field(max_length=512)]], Field(max_length=16)
        ]
        | None
    ) = Field(None, description="Your own data, at most 16 pairs. It is not sent to the provider.")

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.messages is None) == (self.prompt is None):
            raise ValueError("exactly one of messages and prompt is needed")
        return self

    def upstream_body(self) -> dict[str, Any]:
        """Return the fields for the provider, in OpenAI's shape; only those that the client set."""
        messages = self.messages if self.messages is not None else [{"role": "user", "content": self.prompt}]
        body: dict[str, Any] = {"messages": messages}
        for name in _FORWARDED:
            value = getattr(self, name)
            if value is not None:
                body[name] = value
        return body


_FORWARDED = (
    "temperature", "top_p", "max_tokens", "stop", "seed", "tools", "tool_choice", "response_format",
)  # fmt: skip


class Usage(BaseModel):
    """Token counts of the provider."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    cached_tokens: int


class ChatResponse(BaseModel):
    """A complete response."""

    status: Literal["ok"]
    id: str
    request_id: str
    trace_id: str
    provider: str
    model: str = Field(description="The public model name.")
    output: str | None = Field(
        description="The text; the text parts joined if the provider sends parts; null without text."
    )
    message: dict[str, Any] = Field(description="The assistant's message, as the provider sent it.")
    finish_reason: str | None
    usage: Usage | None
    conversation_id: str | None
    duration_ms: float


class ErrorBody(BaseModel):
    """An error, for a program (`code`) and for a person (`message`, `details`)."""

    code: str
    message: str
    request_id: str
    details: list[str] | None = None


class ErrorResponse(BaseModel):
    """The body of every error on the platform's own routes."""

    error: ErrorBody
