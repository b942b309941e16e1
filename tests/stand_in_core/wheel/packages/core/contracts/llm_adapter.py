from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class LLMRequest(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    trace_id: str
    prompt: str
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)
    max_tokens: int = Field(default=256, ge=1)
    model: str


class LLMResponse(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    status: Literal["ok", "error"]
    trace_id: str
    content: str | None = None
    model: str
    finish_reason: str | None = None
    error_code: str | None = None


class LLMAdapterInfo(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    adapter_name: str
    provider: str
    supports_streaming: bool
