from apps.provider_simulator.model.prefix_cache import PrefixCache


def talk(*texts: str) -> list[dict[str, object]]:
    return [{"role": "user", "content": text} for text in texts]


def test_next_turn_finds_the_messages_before_it() -> None:
    cache = PrefixCache()
    assert cache.known_messages("cached-a", talk("one", "two")) == 0
    assert cache.known_messages("cached-a", talk("one", "two", "three")) == 2
    assert cache.known_messages("cached-a", talk("one", "2", "three")) == 1
    assert cache.known_messages("cached-b", talk("one", "two")) == 0


def test_oldest_beginnings_are_forgotten() -> None:
    cache = PrefixCache(size=2)
    cache.known_messages("cached-a", talk("one"))
    cache.known_messages("cached-a", talk("x", "y"))
    assert len(cache._known) == 2
    assert cache.known_messages("cached-a", talk("one")) == 0
