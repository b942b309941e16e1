"""The catalog's models: which providers there are, and which of their models serve which public name."""

from typing import Annotated, Literal

from pydantic import Field

from platform_app.config.fields import ConfigModel, HttpUrl, ModelName, RuleName, SecretName


class ProviderConfig(ConfigModel):
    """One upstream account: where it is, how it speaks, which secret opens it."""

    wire_format: Literal["openai"] = Field("openai", description="How requests are written.")
    base_url: HttpUrl = Field(description="The address before /chat/completions.")
    api_key_secret: SecretName = Field(description="Name of the credential in the secret store.")


class RouteConfig(ConfigModel):
    """One way to serve a model: which provider, and what the model is called there."""

    provider: RuleName
    model: ModelName = Field(description="The model's name at the provider.")


class ModelConfig(ConfigModel):
    """A public model name and the routes that serve it, best first."""

    routes: Annotated[tuple[RouteConfig, ...], Field(min_length=1, max_length=16)]
