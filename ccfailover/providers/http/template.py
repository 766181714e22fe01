"""The body of a request: a Jinja template in the policy's words.

Most bodies only put values in as JSON. Those are rendered here, as Jinja would, because
importing Jinja costs as much as a third of a failover's start; all others are Jinja's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import jinja2

_OPENS = re.compile(r"\{[{%#]")
_VALUE = re.compile(r"\{\{[ \t]*([a-z][a-z0-9_]*)[ \t]*(\|[ \t]*tojson[ \t]*)?\}\}")
_IN_HTML = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"}
"""What Jinja's `tojson` writes so that its text may stand in a page."""


def render(template: str, values: Mapping[str, object]) -> bytes:
    """Raises ValueError, whose text is the kind of fault and holds nothing of the template."""
    text = _plain(template, values)
    try:
        return (_jinja(template, values) if text is None else text).encode()
    except UnicodeEncodeError as error:
        raise ValueError(type(error).__name__) from None


def _plain(template: str, values: Mapping[str, object]) -> str | None:
    """The text, where every mark is `{{ name }}` of a text or `{{ name | tojson }}`; else None."""
    if "\r" in template or template.endswith("\n"):
        return None  # Jinja has rules of its own for these
    parts: list[str] = []
    done = 0
    while (mark := _OPENS.search(template, done)) is not None:
        found = _VALUE.match(template, mark.start())
        if found is None or found[1] not in values:
            return None
        value = values[found[1]]
        if found[2]:
            shown = _as_json(value)
        elif isinstance(value, str):
            shown = value
        else:
            return None
        parts += (template[done:mark.start()], shown)
        done = found.end()
    return "".join((*parts, template[done:]))


def _as_json(value: object) -> str:
    text = json.dumps(value, sort_keys=True)
    for letter, written in _IN_HTML.items():
        text = text.replace(letter, written)
    return text


@cache
def _compiled(template: str) -> jinja2.Template:
    """A batch renders one template for each of its items."""
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(undefined=jinja2.StrictUndefined)
    return environment.from_string(template)


def _jinja(template: str, values: Mapping[str, object]) -> str:
    import jinja2

    try:
        return _compiled(template).render(values)
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError,
            AttributeError) as error:
        raise ValueError(type(error).__name__) from None
