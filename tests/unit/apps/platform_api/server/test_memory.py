"""Memory is returned once after each burst, and not at every small one."""

from apps.platform_api.server.memory import BURST_BYTES, PAUSE_SECONDS, BurstMemory


def test_memory_is_returned_once_after_a_burst() -> None:
    returns: list[float] = []
    now = 0.0
    memory = BurstMemory(lambda: returns.append(now))
    for now, buffered in (
        (1.0, BURST_BYTES),
        (2.0, BURST_BYTES // 2),
        (3.0, 0),
        (4.0, 0),
        (5.0, BURST_BYTES - 1),
        (6.0, 0),
    ):
        memory.note(buffered, now)
    assert returns == [3.0]
    assert not memory.pending


def test_second_burst_waits_for_the_pause() -> None:
    returns: list[float] = []
    memory = BurstMemory(lambda: returns.append(0.0))
    for now, buffered in ((1.0, BURST_BYTES), (2.0, 0), (3.0, 2 * BURST_BYTES), (4.0, 0), (1.0 + PAUSE_SECONDS, 0)):
        memory.note(buffered, now)
    assert len(returns) == 1
    assert memory.pending
    memory.note(0, 2.0 + PAUSE_SECONDS)
    assert len(returns) == 2
    assert not memory.pending
