"""YAML text → plain data, and the place of everything in it.

Only YAML 1.2's core types are known: `NO` is text, `10:30` is text, `2026-10-01` is text. What
makes a policy hard to read or dangerous to load is refused: duplicate keys, tags, merge keys,
several documents, aliases that expand without bound. The file is hostile until proven otherwise:
size, depth and number of nodes are bounded before anything is built.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
from yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from ccfailover.errors import Problem
from ccfailover.policy.places import Mark, Path, Places, Span

try:
    from yaml import CSafeLoader as _Loader
except ImportError:  # PyYAML built without libyaml: slower, the same result
    from yaml import SafeLoader as _Loader  # type: ignore[assignment]

MAX_BYTES = 1 << 20
MAX_WRITTEN = 50_000
"""Values as written; more than a policy of 1 MiB can use."""
MAX_NODES = 200_000
"""Values after aliases are expanded."""
MAX_DEPTH = 64
MAX_DIGITS = 18

FORBIDDEN = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
NOT_FINITE = re.compile(r"[-+]?(\.inf|\.Inf|\.INF)|\.nan|\.NaN|\.NAN")
WORDS: dict[str, bool | None] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
}


class Document(NamedTuple):
    """A policy file as read. `data` holds only dict, list, str, int, float, bool and None."""

    file: str
    sha256: str
    data: dict[str, Any]
    places: Places


class _Node:
    __slots__ = ("kind", "mark", "span", "value")

    def __init__(self, kind: str, mark: Mark, value: Any, span: Span | None = None) -> None:
        self.kind = kind
        self.mark = mark
        self.value = value
        self.span = span


class _Unreadable(Exception):
    """Reading cannot go on after this."""

    def __init__(self, message: str, mark: Mark, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.mark = mark
        self.hint = hint


def read(path: str) -> tuple[Document | None, list[Problem]]:
    """Read a policy file. The document is None when there is nothing that could be checked further.

    Never raises for what the file holds, or for a file that cannot be read: that is a problem
    at line 1.
    """
    try:
        raw = _bytes(path)
        return read_text(raw, path)
    except _Unreadable as stop:
        return None, [Problem(path, *stop.mark, stop.message, hint=stop.hint)]


def read_text(raw: bytes, file: str) -> tuple[Document | None, list[Problem]]:
    """As `read`, of bytes at hand; `file` is what problems call it."""
    problems: list[Problem] = []
    try:
        text = _decode(raw)
        root = _compose(text)
        if root is None:
            raise _Unreadable("the policy is empty", Mark(1, 1),
                              "`ccfailover init` writes a starter")
        if root.kind != "map":
            what = "a list" if root.kind == "list" else "a single value"
            raise _Unreadable(f"a policy is a mapping (`name: …`), this is {what}", root.mark)
        places = Places(text)
        data = _Builder(file, places, problems).build(root, (), 0, root.mark)
    except _Unreadable as stop:
        problems.append(Problem(file, *stop.mark, stop.message, hint=stop.hint))
        return None, problems
    return Document(file, hashlib.sha256(raw).hexdigest(), data, places), problems


def _bytes(path: str) -> bytes:
    start = Mark(1, 1)
    try:
        # Not blocking: opening a pipe that nobody writes to must not hang.
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _Unreadable(f"the policy cannot be read: {reason}", start) from None
    status = os.fstat(handle)
    if not stat.S_ISREG(status.st_mode):
        os.close(handle)
        raise _Unreadable("the policy is not a regular file", start)
    with open(handle, "rb") as stream:
        if status.st_size > MAX_BYTES:
            raise _Unreadable(f"the policy has {status.st_size:,} bytes; {MAX_BYTES:,} is the most"
                              " that is read", start)
        try:
            raw = stream.read(MAX_BYTES + 1)
        except OSError as error:
            raise _Unreadable(f"the policy cannot be read: {error.strerror}", start) from None
    if len(raw) > MAX_BYTES:
        raise _Unreadable(f"the policy has more than {MAX_BYTES:,} bytes", start)
    return raw


def _decode(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _Unreadable("the policy is in UTF-16", Mark(1, 1), "save it as UTF-8")
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        mark = _mark_at(raw[: error.start].decode("utf-8", "replace"))
        raise _Unreadable(f"byte 0x{raw[error.start]:02x} is not UTF-8 text", mark,
                          "save the file as UTF-8") from None
    text = text.removeprefix("\ufeff")
    bad = FORBIDDEN.search(text)
    if bad:
        what = "a NUL byte (is this a binary file?)" if bad[0] == "\0" else f"U+{ord(bad[0]):04X}"
        raise _Unreadable(f"control characters are not allowed: {what}",
                          _mark_at(text[: bad.start()]))
    return text


def _mark_at(before: str) -> Mark:
    return Mark(before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1)


def _compose(text: str) -> _Node | None:
    """The node tree of the only document. Built from events, so that depth is bounded here."""
    try:
        return _tree(iter(yaml.parse(text, Loader=_Loader)))
    except yaml.MarkedYAMLError as error:
        raise _syntax(error, text) from None
    except yaml.YAMLError as error:  # the reader's own: has no mark
        raise _Unreadable(str(error).splitlines()[0], Mark(1, 1)) from None


def _syntax(error: yaml.MarkedYAMLError, text: str) -> _Unreadable:
    mark = error.problem_mark or error.context_mark
    place = Mark(mark.line + 1, mark.column + 1) if mark else Mark(1, 1)
    lines = text.split("\n")
    line = lines[mark.line] if mark and mark.line < len(lines) else ""
    if mark and line[mark.column : mark.column + 1] == "\t":
        return _Unreadable("a tab cannot indent YAML; use spaces", place)
    message = f"not valid YAML: {error.problem or error.context}"
    opened = error.context_mark
    if error.context and opened and (opened.line, opened.column) != (place[0] - 1, place[1] - 1):
        message += f", {error.context} that began in line {opened.line + 1}"
    if place.line > len(lines) or (place.line == len(lines) and not line):
        # libyaml points behind the end of the file; what was left open is the useful place
        place = Mark(opened.line + 1, opened.column + 1) if opened else place
        message += " (the file ends before it is closed)"
    hint = "text that holds `: ` or begins with one of @ ` % & * must stand in quotes" \
        if "mapping values" in message or "cannot start any token" in message else None
    return _Unreadable(message, place, hint)


def _tree(events: Iterator[Any]) -> _Node | None:
    root: _Node | None = None
    stack: list[tuple[_Node, str | None]] = []
    anchors: dict[str, _Node | None] = {}
    documents = count = 0
    for event in events:
        mark = Mark(event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise _Unreadable("a policy is one YAML document; a second one begins here", mark)
            continue
        if isinstance(event, CollectionEndEvent):
            node, anchor = stack.pop()
            mark = node.mark
            if anchor:
                anchors[anchor] = node
        elif isinstance(event, NodeEvent):
            count += 1
            if count > MAX_WRITTEN:
                raise _Unreadable(f"more than {MAX_WRITTEN:,} values", mark)
            node = _node(event, mark, anchors)
            if isinstance(event, (MappingStartEvent, SequenceStartEvent)):
                if len(stack) >= MAX_DEPTH:
                    raise _Unreadable(f"nested deeper than {MAX_DEPTH} levels", mark)
                if event.anchor:
                    anchors[event.anchor] = None
                stack.append((node, event.anchor))
                continue
            if isinstance(event, ScalarEvent) and event.anchor:
                anchors[event.anchor] = node
        else:
            continue
        if stack:
            stack[-1][0].value.append((node, mark))
        else:
            root = node
    return root


def _node(event: Any, mark: Mark, anchors: dict[str, _Node | None]) -> _Node:
    if isinstance(event, AliasEvent):
        if event.anchor not in anchors:
            raise _Unreadable(f"alias *{event.anchor} has no anchor before it", mark,
                              "text that begins with * must stand in quotes")
        found = anchors[event.anchor]
        if found is None:
            raise _Unreadable(f"alias *{event.anchor} stands inside what it repeats", mark)
        return found
    if event.tag is not None:
        raise _Unreadable(f"tags are not allowed: {event.tag}", mark,
                          "text that begins with ! must stand in quotes")
    if isinstance(event, MappingStartEvent):
        return _Node("map", mark, [])
    if isinstance(event, SequenceStartEvent):
        return _Node("list", mark, [])
    span = Span(event.start_mark.index, event.end_mark.index, event.style or "")
    return _Node("text" if event.style else "plain", mark, event.value, span)


class _Builder:
    """Nodes → data. Goes on after a problem, so that all of them are found at once."""

    def __init__(self, file: str, places: Places, problems: list[Problem]) -> None:
        self._file = file
        self._places = places
        self._problems = problems
        self._count = 0

    def _problem(self, mark: Mark, message: str, hint: str | None = None) -> None:
        self._problems.append(Problem(self._file, *mark, message, hint=hint))

    def build(self, node: _Node, path: Path, depth: int, mark: Mark) -> Any:
        """`mark` is where the value stands; of an alias that is not where it was written."""
        self._count += 1
        if self._count > MAX_NODES:
            raise _Unreadable(f"aliases expand to more than {MAX_NODES:,} values", node.mark)
        if depth > MAX_DEPTH:
            raise _Unreadable(f"nested deeper than {MAX_DEPTH} levels", node.mark)
        self._places.note(path, mark, node.span)
        if node.kind == "map":
            return self._mapping(node, path, depth)
        if node.kind == "list":
            return [self.build(child, (*path, index), depth + 1, mark)
                    for index, (child, mark) in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: _Node, path: Path, depth: int) -> dict[str, Any]:
        data: dict[str, Any] = {}
        first: dict[str, Mark] = {}
        children = iter(node.value)
        for (key_node, key_mark), (child, mark) in zip(children, children, strict=True):
            key = self._key(key_node, key_mark)
            if key is None:
                continue
            if key in first:
                self._problem(key_mark, f"`{_short(key)}` is here twice; the first one is in line "
                                        f"{first[key].line}")
                continue
            first[key] = key_mark
            self._places.note_key((*path, key), key_mark)
            data[key] = self.build(child, (*path, key), depth + 1, mark)
        return data

    def _key(self, node: _Node, mark: Mark) -> str | None:
        if node.kind in ("map", "list"):
            self._problem(mark, "a key must be text, not a list or a mapping")
            return None
        if node.kind == "plain" and node.value == "<<":
            self._problem(mark, "merge keys (`<<`) are not allowed", "write the keys out")
            return None
        value = self._scalar(node)
        if not isinstance(value, str):
            shown = _short(node.value) or "an empty value"
            self._problem(mark, f"a key must be text, {shown} is not", f'write "{shown}"')
            return None
        return value

    def _scalar(self, node: _Node) -> Any:
        text: str = node.value
        if node.kind == "text":
            bad = FORBIDDEN.search(text)
            if bad:
                self._problem(node.mark, f"control characters are not allowed: U+{ord(bad[0]):04X}")
                return ""
            return text
        if text in WORDS:
            return WORDS[text]
        if INT.fullmatch(text):
            if len(text) > MAX_DIGITS:
                self._problem(node.mark, f"{_short(text)} has more than {MAX_DIGITS} digits")
                return 0
            return int(text, 10 if text[:2] not in ("0x", "0o") else 0)
        if NOT_FINITE.fullmatch(text):
            self._problem(node.mark, f"{text} is not a number that can be used here")
            return 0
        if FLOAT.fullmatch(text):
            number = float(text) if len(text) < 400 else float("inf")
            if number in (float("inf"), float("-inf")):
                self._problem(node.mark, f"{_short(text)} is too large a number")
                return 0
            return number
        return text


def _short(text: str, most: int = 40) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
