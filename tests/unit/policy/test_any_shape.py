"""Whatever shape a policy has, the answer is a policy or a list of problems."""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Iterator
from typing import Any

import yaml

STRANGE: list[Any] = [None, {}, {"a": 1}, [["a"]], ["a", "a"], 0, True, "zz", "", 1e300,
                      {"kind": "switch"}]


def paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    children = value.items() if isinstance(value, dict) else enumerate(value) \
        if isinstance(value, list) else ()
    for key, child in children:
        yield from paths(child, (*path, key))


def test_every_value_may_be_of_any_shape(examine, right):
    """Each value of a policy in turn becomes a thing it should not be."""
    data = yaml.safe_load(right)
    for number, path in enumerate(paths(data)):
        for turn in range(4):
            strange = STRANGE[(number * 4 + turn) % len(STRANGE)]
            broken = copy.deepcopy(data)
            place = broken
            for part in path[:-1]:
                place = place[part]
            place[path[-1]] = strange
            for validate in (True, False):
                policy, problems = examine(json.dumps(broken), validate=validate)
                assert policy is not None or any(one.is_error for one in problems), path


def test_damaged_bytes_are_refused_or_read(examine, right):
    """Bytes flipped, cut out, doubled or lost at the end: never an exception."""
    chance = random.Random(7)
    raw = right.encode()
    for _ in range(400):
        start = chance.randrange(len(raw))
        end = min(len(raw), start + chance.choice((1, 1, 3, 30)))
        new = chance.choice((b"", bytes([chance.randrange(256)]), raw[start:end] * 2, b"\t", b"*",
                             b"{", b"]", b"'", b"\n", b": ", b"- ", b"&a ", b"!x "))
        damaged = raw[:start] + new + (b"" if chance.random() < 0.1 else raw[end:])
        policy, problems = examine(damaged)
        assert policy is not None or any(one.is_error for one in problems)
        assert all(one.line >= 1 and one.column >= 1 for one in problems)
