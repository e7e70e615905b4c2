"""A memory of lookups: what it keeps, what it forgets, and what strangers cannot drive out of it."""

from gateway.directory.memory import KEPT_ABSENT, Memory


def kept(memory: Memory[str, int], key: str) -> int | str | None:
    return "absent" if memory.knows_absence(key) else memory.find(key)


def test_values_and_absences_are_told_apart_from_what_is_unknown() -> None:
    memory: Memory[str, int] = Memory(10)
    memory.keep("a", 1, memory.version)
    memory.keep("b", None, memory.version)
    assert [kept(memory, key) for key in "abc"] == [1, "absent", None]


def test_invented_keys_drive_out_no_value() -> None:
    memory: Memory[str, int] = Memory(10)
    for number in range(10):
        memory.keep(str(number), number, memory.version)
    for number in range(10_000):
        memory.keep(f"invented {number}", None, memory.version)
    assert [memory.find(str(number)) for number in range(10)] == list(range(10))
    assert sum(memory.knows_absence(f"invented {number}") for number in range(10_000)) == KEPT_ABSENT


def test_the_least_used_value_is_dropped_first() -> None:
    memory: Memory[str, int] = Memory(2)
    for key in "abac":
        if memory.find(key) is None:
            memory.keep(key, 1, memory.version)
    assert [memory.find(key) for key in "abc"] == [1, None, 1]


def test_values_may_have_weights_and_one_that_is_too_heavy_is_not_kept() -> None:
    memory: Memory[str, int] = Memory(10, lambda value: value)
    memory.keep("a", 6, memory.version)
    memory.keep("b", 11, memory.version)
    assert [memory.find(key) for key in "ab"] == [6, None]
    memory.keep("c", 5, memory.version)
    assert [memory.find(key) for key in "ac"] == [None, 5]


def test_a_value_that_was_replaced_or_dropped_weighs_nothing_more() -> None:
    memory: Memory[str, int] = Memory(10, lambda value: value)
    for value in (6, 7, 5):
        memory.keep("a", value, memory.version)
    memory.keep("b", 5, memory.version)
    assert [memory.find(key) for key in "ab"] == [5, 5]
    memory.drop("a")
    memory.keep("c", 5, memory.version)
    assert [memory.find(key) for key in "bc"] == [5, 5]
    memory.drop_all()
    memory.keep("d", 10, memory.version)
    assert memory.find("d") == 10


def test_a_drop_forgets_one_value_and_every_absence() -> None:
    memory: Memory[str, int] = Memory(10)
    for key, value in (("a", 1), ("b", 2), ("c", None)):
        memory.keep(key, value, memory.version)
    memory.drop("a")
    assert [kept(memory, key) for key in "abc"] == [None, 2, None]
    memory.drop_all()
    assert kept(memory, "b") is None


def test_what_was_read_before_a_drop_is_not_kept() -> None:
    memory: Memory[str, int] = Memory(10)
    for forget in (lambda: memory.drop("other"), memory.drop_all, memory.forget_absences):
        version = memory.version
        forget()
        memory.keep("a", 1, version)
        memory.keep("b", None, version)
        assert [kept(memory, key) for key in "ab"] == [None, None]


def test_a_concealed_key_is_forgotten_with_the_absent_ones_and_keeps_its_value() -> None:
    memory: Memory[str, int] = Memory(10, kept_absent=2)
    memory.keep("a", 1, memory.version)
    memory.conceal("a", memory.version)
    assert memory.knows_concealed("a")
    assert kept(memory, "a") == 1
    for key in "bc":
        memory.keep(key, None, memory.version)
    assert not memory.knows_concealed("a")
    version = memory.version
    memory.conceal("a", version)
    memory.forget_absences()
    assert not memory.knows_concealed("a")
    memory.conceal("a", version)
    assert not memory.knows_concealed("a")
