"""One call for whoever guards something: charge the rules that apply, or refuse with words and headers."""

from dataclasses import dataclass

from platform_app.errors import RateLimited
from platform_app.observability.context import RequestContext
from platform_app.rate_limit.headers import rate_limit_headers
from platform_app.rate_limit.limiter import RateLimiter
from platform_app.rate_limit.rules import RuleBook, Usage


class Admission:
    """Stand-in until the limits land."""

    def settle(self, tokens: int | None, cost_microusd: int | None) -> None:
        """See above."""

    def release(self) -> None:
        """See above."""


@dataclass(frozen=True, slots=True)
class RateLimitGate:
    """Rules and the limiter that counts for them."""

    rules: RuleBook
    limiter: RateLimiter

    async def charge(self, usage: Usage, context: RequestContext) -> None:
        """Charge every rule that applies; the request's answer will carry the rate-limit headers.

        Raises:
            RateLimited: naming the rule, its limit and its window; then nothing was charged.
        """
        decision = await self.limiter.acquire(self.rules.charges(usage))
        context.response_headers.update(rate_limit_headers(decision))
        if decision.denied_by is None:
            return
        rule = decision.denied_by.rule
        raise RateLimited(
            f"The rate limit '{rule.name}' is reached. Try again in {decision.retry_after} s.",
            details=[f"{rule.name}: {rule.limit} {rule.unit} in any {rule.window_seconds} s, counted by {rule.scope}"],
            retry_after=decision.retry_after,
        )

    async def admit(self, usage: Usage, context: RequestContext) -> Admission:
        """See above."""
        await self.charge(usage, context)
        return Admission()
