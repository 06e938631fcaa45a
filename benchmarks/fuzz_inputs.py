"""Broken and hostile inputs, mutated from valid files or made up: a part of `fuzz.py`."""

from __future__ import annotations

import json
import random
import string
from typing import Any

HOSTILE = [
    None, True, False, 0, -1, 1, 2**31, 2**63, 10**400, 1.5, 1e308, float("nan"), float("inf"),
    "", "x", "\0", "../../etc/passwd", "\ud800", "é" * 3, [], {}, [[]], [None] * 5, {"": None},
]  # fmt: skip


VALUES = [
    "", "x", "0", "-1", "3", "1.5", "1e400", "nan", "true", "9" * 5000, "[" * 5000, "--help", "--",
    "\0", "\x1b[31m", "\udcff", "\u202e", "é", "../../etc/passwd", "/dev/zero", "~",
]  # fmt: skip


def mutate(valid: list[bytes], source: random.Random, as_json: bool) -> bytes:
    """A valid file with one to four things changed; half of the JSON ones stay JSON."""
    raw = bytearray(source.choice(valid))
    if as_json and source.random() < 0.5:
        tree = json.loads(raw)
        for _ in range(source.randint(1, 2)):
            tree = _mutate_tree(tree, source)
        return _to_json(tree)
    for _ in range(source.randint(1, 4)):
        at = source.randrange(len(raw) + 1)
        to = min(len(raw), at + source.choice((1, 1, 2, 4, 16)))
        choice = source.randrange(8)
        if choice == 0 and at < len(raw):
            raw[at] ^= 1 << source.randrange(8)
        elif choice == 1:
            del raw[at:to]
        elif choice == 2:
            del raw[at:]
        elif choice == 3:
            raw[at:at] = raw[source.randrange(len(raw) + 1) :][:64]
        elif choice == 4:
            raw[at:to] = source.randbytes(source.choice((1, 2, 8)))
        elif choice == 5:
            other = source.choice(valid)
            raw[at:] = other[source.randrange(len(other) + 1) :]
        elif choice == 6:  # a number at a border of its type
            size = source.choice((1, 2, 4, 8))
            number = source.choice((0, 1, 2 ** (8 * size) - 1, 2 ** (8 * size - 1)))
            raw[at : at + size] = number.to_bytes(size, "little")
        elif choice == 7:
            raw[at:at] = source.choice(
                (b'"', b",", b"\n", b"\0", b"[" * 3000, b"9" * 400, b"-", b"e9")
            )
    return bytes(raw)


def _mutate_tree(tree: Any, source: random.Random) -> Any:
    if not isinstance(tree, dict | list) or not tree or source.random() < 0.15:
        return source.choice(HOSTILE)
    if isinstance(tree, list):
        at = source.randrange(len(tree))
        if source.random() < 0.3:
            return source.choice((tree[:at], tree + tree[at:], tree[::-1]))
        return [*tree[:at], _mutate_tree(tree[at], source), *tree[at + 1 :]]
    name = source.choice(list(tree))
    choice = source.random()
    if choice < 0.1:
        return {key: value for key, value in tree.items() if key != name}
    if choice < 0.2:
        return tree | {source.choice(("", "x", "__class__", name + "s")): source.choice(HOSTILE)}
    return tree | {name: _mutate_tree(tree[name], source)}


def invent(source: random.Random, keys: tuple[str, ...] = (), flags: tuple[str, ...] = ()) -> bytes:
    """An input that owes nothing to a valid file: for the most part JSON with some of the keys, or
    arguments, one a line, with some of the flags."""
    choice = source.random()
    if flags and choice < 0.7:
        arguments = [_invent_argument(source, flags) for _ in range(source.randrange(1, 5))]
        return "\n".join(arguments).encode("utf-8", errors="surrogateescape")
    if keys and choice < 0.7:
        return _to_json(_invent_tree(source, keys, depth=4))
    if choice < 0.85:
        return source.randbytes(source.choice((0, 1, 3, 30, 300)))
    alphabet = string.printable + "é\u2028\ufeff"
    return "".join(source.choices(alphabet, k=source.choice((1, 10, 100)))).encode()


def _invent_tree(source: random.Random, keys: tuple[str, ...], depth: int) -> Any:
    choice = source.random()
    if depth == 0 or choice < 0.3:
        return source.choice(HOSTILE)
    if choice < 0.45:
        return [_invent_tree(source, keys, depth - 1) for _ in range(source.randrange(4))]
    chosen = (
        source.sample(keys, source.randint(1, len(keys)))
        if depth == 4
        else source.choices(keys, k=3)
    )
    return {key: _invent_tree(source, keys, depth - 1) for key in chosen}


def _invent_argument(source: random.Random, flags: tuple[str, ...]) -> str:
    """`--flag=value`, and what is not quite one."""
    name, value = source.choice(flags), source.choice(VALUES)
    if source.random() < 0.2:
        at = source.randrange(len(name) + 1)
        name = name[:at] + source.choice(VALUES) + name[at + source.randrange(3) :]
    name = source.choice(("--", "--", "-", "--no", "--no", "", "---")) + name
    return source.choice((name, value, f"{name}={value}", f"{name}={value}", f"{name}\n{value}"))


def _to_json(tree: Any) -> bytes:
    return json.dumps(tree).encode()
