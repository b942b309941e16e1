"""The Redis client: script calls over one pipelined connection per server or cluster node."""
