from typing import Any

from pydantic import BaseModel, ConfigDict


class Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")

    def model_dump(self, **options: Any) -> dict[str, Any]:
        return super().model_dump(**{"exclude_none": True, **options})


class ErrorPayload(Schema):
    code: str
    message: str
    request_id: str
    details: list[str] | None = None


class ErrorResponse(Schema):
    error: ErrorPayload
