"""Limits how much callers use: requests, tokens, cost and concurrent requests.

    rule.py         Rule: at most so many units per window, calendar period, or at a time
    matching.py     RuleBook: a request -> its Charges, one for each rule that applies, each with a counter
    limiter.py      RateLimiter, the interface: charge all counters of a request or none -> Decision
    limiters/       on Redis, on a cluster, in this process, and the failover between them
    lua/            the algorithm, which runs in Redis: sliding_window.lua begins each script that counts (acquire,
                    read, settle, renew, seed); once.lua begins one that must not run twice
    calendar.py     the periods of calendar budgets
    service.py      RateLimitService: what the API calls; raises the errors that clients see
    known_denials.py  denials that are repeated without a call to Redis until they end
    auth_failures.py  the limit on invalid keys, by client address
    reservations.py the units that this process has reserved for running requests

A rule for requests is charged at once. Tokens and cost are reserved at admission and settled with what was used.
"""
