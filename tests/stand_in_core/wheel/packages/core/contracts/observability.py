from pydantic import BaseModel, ConfigDict


class TraceContextContract(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    trace_id: str
    request_id: str | None = None
    span_id: str | None = None
    parent_span_id: str | None = None
