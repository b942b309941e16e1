from typing import Literal

from pydantic import BaseModel, ConfigDict


class AlertRule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    description: str
    severity: Literal["info", "warning", "critical"]
    condition: str
    threshold: float
    evaluation_interval_seconds: int
