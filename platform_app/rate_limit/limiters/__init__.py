"""The limiters, which have one interface (`rate_limit.limiter.RateLimiter`).

redis.py               exact across processes, on one Redis server
cluster.py             the same on a cluster, where one call reaches one slot
local.py               in this process, with its share of each limit
failover.py            uses the shared limiter, and the local one while Redis is unavailable
opening.py             opens the limiter of a process
scripts.py             loads the Lua scripts
seeding.py             sets new budget counters to what the ledger has
orphan_settlements.py  settles requests of processes that died
"""
