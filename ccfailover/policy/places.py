"""Where in the file each key and value of a policy stands."""

from __future__ import annotations

from typing import NamedTuple

Path = tuple[str | int, ...]
"""A way into the data: `("sites", "hq", "probes", 0, "url")`."""

ESCAPED = {"x": 2, "u": 4, "U": 8}
"""Hexadecimal digits after a backslash in a double-quoted scalar."""


class Mark(NamedTuple):
    """One-based, in characters, as editors count."""

    line: int
    column: int


class Span(NamedTuple):
    """A scalar as written: `start` and `end` are offsets into the text, `style` YAML's."""

    start: int
    end: int
    style: str


class Places:
    """`path → place`; a path that does not exist gives the place of its nearest ancestor."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._keys: dict[Path, Mark] = {}
        self._values: dict[Path, Mark] = {}
        self._spans: dict[Path, Span] = {}

    def note(self, path: Path, mark: Mark, span: Span | None = None) -> None:
        self._values[path] = mark
        if span is not None:
            self._spans[path] = span

    def note_key(self, path: Path, mark: Mark) -> None:
        self._keys[path] = mark

    def value(self, path: Path) -> Mark:
        while path and path not in self._values:
            path = path[:-1]
        return self._values.get(path, Mark(1, 1))

    def key(self, path: Path) -> Mark:
        """The place of the key that `path` ends with; of the value where it is a list's item."""
        return self._keys.get(path) or self.value(path)

    def inside(self, path: Path, value: str, offset: int) -> Mark:
        """The place of character `offset` of the text value at `path`.

        Blanks are where a written scalar and its value differ (indentation, folding), so the
        characters that are not blank are counted in both; escapes count as what they stand for.
        """
        span = self._spans.get(path)
        if span is None:
            return self.value(path)
        wanted = sum(1 for char in value[:offset] if not char.isspace())
        position = self._find(span, wanted)
        line = self._text.count("\n", 0, position) + 1
        return Mark(line, position - (self._text.rfind("\n", 0, position) + 1) + 1)

    def _find(self, span: Span, wanted: int) -> int:
        text, position, end = self._text, span.start, min(span.end, len(self._text))
        if span.style in ("|", ">"):
            newline = text.find("\n", position, end)
            position = newline + 1 if newline >= 0 else end
        elif span.style in ("'", '"'):
            position, end = position + 1, end - 1
        last = position
        while position < end:
            width, blank = _written(text, position, span.style)
            if not blank:
                if wanted == 0:
                    return position
                wanted -= 1
                last = position + width
            position += width
        return min(last, max(span.end - 1, span.start))


def _written(text: str, position: int, style: str) -> tuple[int, bool]:
    """How many characters stand for the next one of the value, and whether it is blank."""
    char = text[position]
    if style == "'" and char == "'":
        return 2, False
    if style == '"' and char == "\\":
        code = text[position + 1 : position + 2]
        return 2 + ESCAPED.get(code, 0), code in "ntr \n\tveNLP_"
    return 1, char.isspace()
