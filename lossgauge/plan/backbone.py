"""One backbone of a study file: its name, and settings that differ from its defaults."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, field_validator, model_serializer

from lossgauge.plan.loss import Text, Value


class BackbonePlan(BaseModel):
    """The name of a backbone and its settings: `{name: hf:MODEL, settings: {revision: …}}`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Text
    settings: dict[Text, Value] = {}

    @field_validator("settings")
    @classmethod
    def _no_network(cls, settings: dict[str, Value]) -> dict[str, Value]:
        if "download" in settings:
            raise ValueError("download cannot be set in a study file: use --download")
        return settings

    @model_serializer
    def _as_written(self) -> str | dict[str, Any]:
        return {"name": self.name, "settings": self.settings} if self.settings else self.name

    @property
    def title(self) -> str:
        """The name, with the settings if there are any: `hf:MODEL(revision=v1)`."""
        inside = ", ".join(f"{key}={value}" for key, value in self.settings.items())
        return f"{self.name}({inside})" if inside else self.name


def backbones(value: Any) -> Any:
    """Input for `BackbonePlan`, or a dict of such inputs by dataset, from any form a study file may use."""
    if isinstance(value, str):
        return {"name": value}
    if isinstance(value, dict) and "name" not in value:
        return {
            dataset: {"name": backbone} if isinstance(backbone, str) else backbone
            for dataset, backbone in value.items()
        }
    return value
