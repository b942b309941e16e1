from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ResponseError(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    code: str
    message: str
    details: dict[str, Any] = Field(default_factory=dict)
    retriable: bool = False
