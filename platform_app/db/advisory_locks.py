"""The numbers of PostgreSQL's advisory locks: one list, so that no two features share a lock by accident.

The numbers are arbitrary. They must not change between versions that can run at the same time, because a lock excludes
only processes that use the same number.
"""

from enum import IntEnum, unique


@unique
class AdvisoryLock(IntEnum):
    """Every advisory lock that the platform takes."""

    MIGRATIONS = 7_202_811_001
    """Held by a session while migrations run, and by a transaction that grants the runtime role its rights
    (deploy/roles.sql too), so that several deployments do both one after the other."""
    LAST_ADMINISTRATOR = 7_202_811_002
    """Held by a transaction that could leave no administrator's key, so that two of them cannot do it together."""
    PARTITION_CREATION = 7_202_811_003
    """Held while a partition is created; used inside a function in the database (migration 0002)."""
    PARTITION_MAINTENANCE = 7_202_811_004
    """Held by the process that does the hourly partition maintenance; the others skip it."""
    CONFIG_AUDIT = 7_202_811_005
    """Held by a transaction that writes the audit event of a config reload, so that processes write it once."""
