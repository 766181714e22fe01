"""JSON from outside: strict, bounded, and looked into by JSON pointer (RFC 6901)."""

from __future__ import annotations

import json
from typing import Final


class Missing:
    """What `at` gives where the document has nothing; unlike None, which JSON can hold."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


def parse(body: bytes) -> object:
    """Strict JSON: UTF-8, no NaN, no key twice, no nesting that exhausts the stack.

    Raises ValueError; its text holds nothing of the document.
    """
    try:
        return _DECODER.decode(body.decode("utf-8"))
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON at line {error.lineno}, column {error.colno}") from None
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None
    except RecursionError:
        raise ValueError("JSON nested too deeply") from None


def at(document: object, pointer: str) -> object:
    """The value at `pointer` (`` is the whole document), or MISSING."""
    if pointer == "":
        return document
    if not pointer.startswith("/"):
        raise ValueError(f"a JSON pointer starts with '/', not {pointer[:1]!r}")
    here = document
    for raw in pointer[1:].split("/"):
        token = raw.replace("~1", "/").replace("~0", "~")
        if isinstance(here, dict) and token in here:
            here = here[token]
        elif isinstance(here, list) and _index(token) < len(here):
            here = here[_index(token)]
        else:
            return MISSING
    return here


def quoted(text: str, limit: int = 60) -> str:
    """A foreign name, safe to print: escaped, and cut at `limit` characters."""
    return ascii(text if len(text) <= limit else text[:limit] + "…")


def _index(token: str) -> int:
    plain = token.isascii() and token.isdigit() and len(token) <= 6
    canonical = token == "0" or not token.startswith("0")
    return int(token) if plain and canonical else 1_000_000_000


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has one key twice")
    return found


# Made once: `json.loads` makes one for every text.
_DECODER: Final = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)
