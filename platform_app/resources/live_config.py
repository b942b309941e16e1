"""What a changed config file replaces in the running process: all of it, or nothing."""

from platform_app.auth.keys.rules import KeyRules
from platform_app.config import PlatformConfig, Settings
from platform_app.llm.models.builder import ModelBuilder
from platform_app.llm.models.registry import ModelRegistry
from platform_app.observability.logs.level import LOG_LEVEL
from platform_app.rate_limit.matching import RuleBook


class LiveConfig:
    """The parts of the process that follow the config file."""

    def __init__(
        self, settings: Settings, builder: ModelBuilder, rules: RuleBook, key_rules: KeyRules, models: ModelRegistry
    ) -> None:
        self._settings = settings
        self._builder = builder
        self._rules = rules
        self._key_rules = key_rules
        self._models = models

    def apply(self, changed: PlatformConfig) -> None:
        """Replace the models, the limit rules, the rules for keys and the log level."""
        # Building can fail, and the replacements cannot. So it comes first, and a failure leaves everything as it was.
        served = self._builder.build(changed)
        self._rules.replace(changed.rate_limits.rules)
        self._key_rules.replace(changed.rate_limits.rules, changed.model_names, changed.owners)
        self._models.replace(served, self._settings.default_model, changed.rate_limits.default_output_tokens)
        use_log_level(self._settings, changed)


def use_log_level(settings: Settings, config: PlatformConfig) -> None:
    """Use the log level of the config file, or without one that of the environment."""
    LOG_LEVEL.configure(config.log_level or settings.log_level, "config_file")
