from pydantic import BaseModel, ConfigDict


class RuntimeMeta(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    service: str
    environment: str
    version: str
    build_sha: str | None = None
