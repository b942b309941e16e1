"""The error of a route that is not asked for a while."""

from platform_app.errors import ProviderUnavailable


class BreakerOpen(ProviderUnavailable):
    """Nothing was sent: the route failed too often lately. To a caller it is the provider that is unavailable."""
