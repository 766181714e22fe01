"""Is the policy of the right shape? JSON Schema for the envelope, then each block's own kind.

Every deviation becomes a sentence for the person who wrote the policy, at the place where it
stands. A value that should have been a reference to a secret is never repeated.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from ccfailover.errors import Problem
from ccfailover.policy.blocks import blocks, levers, probes, steps
from ccfailover.policy.kinds import KindSchemas, Schema
from ccfailover.policy.places import Mark, Path
from ccfailover.policy.read import Document
from ccfailover.policy.values import CHECKS, REFERENCE, did_you_mean, shown

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

PROBE_COMMON = ("kind", "every", "timeout", "fall", "rise", "observer")
SECRET_MESSAGE = (
    "must be a reference to a secret (env:NAME, file:/path or aws-secretsmanager:ID), "
    "not the secret itself"
)
MOST = 200
"""Problems after which one stops looking for more: nobody reads on, and each takes time."""
TYPES = {"string": "text", "integer": "a whole number", "number": "a number",
         "boolean": "true or false", "object": "a mapping", "array": "a list", "null": "empty"}


def schema_text() -> str:
    """The JSON Schema of a policy, as shipped and as `policy schema` prints it."""
    with open(os.path.join(os.path.dirname(__file__), "schema.json"), encoding="utf-8") as file:
        return file.read()


class Shape:
    """Checks one document; `problems` gathers what is wrong with it."""

    def __init__(self, document: Document, kinds: KindSchemas) -> None:
        self._document = document
        self._kinds = kinds
        self._places = document.places
        self.problems: list[Problem] = []

    def check(self) -> list[Problem]:
        data = self._document.data
        self._validate(data, json.loads(schema_text()), ())
        for name, block in blocks(data, "providers"):
            self._provider(block, ("providers", name))
        for path, probe in probes(data):
            common = (*PROBE_COMMON, "site") if path[0] == "queues" else PROBE_COMMON
            self._kind(probe, path, self._kinds.probe_kinds(), self._kinds.probe_schema,
                       common, "probe")
        for path, lever in levers(data):
            self._lever(lever, path, data)
        for path, step, params in steps(data):
            self._step(path, step, params)
        return self.problems

    def _provider(self, block: Mapping[str, Any], path: Path) -> None:
        self._kind(block, path, self._kinds.provider_kinds(), self._kinds.provider_schema,
                   ("kind",), "provider")

    def _kind(self, block: Mapping[str, Any], path: Path, known: Sequence[str],
              schema_of: Callable[[str], Schema], common: Sequence[str], noun: str) -> None:
        kind = block.get("kind")
        if not isinstance(kind, str) or not kind:
            return  # the envelope's schema has said so
        if kind not in known:
            self._say(self._places.value((*path, "kind")),
                      f"there is no {noun} kind {shown(kind)}{did_you_mean(kind, known)}")
            return
        schema = schema_of(kind)
        own = {key: value for key, value in block.items()
               if key not in common or (key != "kind" and key in _properties(schema))}
        self._validate(own, _closed(schema), path, f"a {kind} {noun}", common)

    def _lever(self, lever: Mapping[str, Any], path: Path, data: Mapping[str, Any]) -> None:
        kind = next((block.get("kind") for name, block in blocks(data, "providers")
                     if name == lever.get("provider")), None)
        if not isinstance(kind, str) or kind not in self._kinds.provider_kinds():
            return
        schema = self._kinds.lever_schema(kind)
        extra = {"backlog": ("canary",), "route": ("reassert",), "intake": ("reassert",),
                 "announcement": ("emergency",)}
        use = str(path[2]) if len(path) > 2 and "levers" not in path else ""
        ours = ("provider", "ref", *extra.get(use, ()))
        common = [key for key in ours if key not in _properties(schema)]
        own = {key: value for key, value in lever.items() if key not in common}
        if "ref" in _properties(schema):
            own.setdefault("ref", str(path[1]))
        self._validate(own, _closed(schema), path, f"a lever of a {kind} provider", common)

    def _step(self, path: Path, kind: str, params: object) -> None:
        known = self._kinds.step_kinds()
        if kind not in known:
            self._say(self._places.key(path),
                      f"there is no step kind {shown(kind)}{did_you_mean(kind, known)}")
        else:
            self._validate(params if params is not None else {},
                           _closed(self._kinds.step_schema(kind)), path, f"step {kind}")

    def _validate(self, value: Any, schema: Schema, path: Path, what: str = "",
                  common: Sequence[str] = ()) -> None:
        for error in _validator_class()(schema).iter_errors(value):
            if len(self.problems) >= MOST:
                return
            self._explain(error, path, what, common)

    def _say(self, mark: Mark, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(self._document.file, *mark, message, hint=hint))

    def _explain(self, error: Any, base: Path, what: str,
                 common: Sequence[str]) -> None:
        path = (*base, *error.absolute_path)
        schema = error.schema if isinstance(error.schema, Mapping) else {}
        name = _dotted(path)
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            known = sorted({*_properties(schema), *(common if path == base else ())})
            for key in error.instance:
                if len(self.problems) >= MOST:
                    return
                if key not in _properties(schema):
                    where = f" in {name}" if name else ""
                    tail = did_you_mean(key, known) or _listed(known)
                    self._say(self._places.key((*path, key)),
                              f"unknown key {shown(key)}{where}{tail}")
        elif error.validator == "required":
            missing = [key for key in error.validator_value if key not in error.instance]
            for key in missing:
                if f"'{key}'" in error.message:  # one error for each missing key
                    of = f"{name}" if name else "the policy"
                    self._say(self._places.key(path), f"{of} lacks `{key}`" + (
                        f", which {what} needs" if what else ""))
        elif "propertyNames" in error.absolute_schema_path:
            self._say(self._places.key((*path, str(error.instance))),
                      f"{shown(error.instance)} {schema.get('x-message') or error.message}")
        else:
            self._say(self._places.value(path),
                      f"{name or 'the policy'} {_sentence(error, schema, own=bool(base))}")


def check(document: Document, kinds: KindSchemas) -> list[Problem]:
    """Everything that is wrong with the document's shape; imports jsonschema."""
    return Shape(document, kinds).check()


def _sentence(error: Any, schema: Mapping[str, Any], *, own: bool) -> str:
    """What is wrong with one value. `own`: a kind's block, where a value may be a credential."""
    value, rule, wanted = error.instance, error.validator, error.validator_value
    if schema.get("x-secret"):
        return SECRET_MESSAGE
    if value is None and rule != "x-check":
        return "is empty: give it a value, or leave the key out"
    tail = "" if own else _is(value)
    if rule in ("pattern", "anyOf", "oneOf") and isinstance(value, (dict, list)) and error.context:
        deeper = [inner for inner in error.context if len(inner.absolute_path)
                  > len(error.absolute_path)]
        if deeper:
            inner = deeper[0]
            where = _dotted(tuple(inner.path))
            inside = inner.schema if isinstance(inner.schema, Mapping) else {}
            return f"is wrong at `{where}`, which {_sentence(inner, inside, own=own)}"
    if "x-message" in schema and rule != "x-check":
        return f"{schema['x-message']}{tail}"
    if rule == "x-check":
        return str(error.message)
    if rule == "type":
        names = [wanted] if isinstance(wanted, str) else list(wanted)
        return f"must be {' or '.join(TYPES.get(name, name) for name in names)}{_is(value, own)}"
    if rule == "enum":
        options = [str(option) for option in wanted]
        guess = did_you_mean(value, options) if isinstance(value, str) else ""
        return f"must be one of {', '.join(options)}{tail}{guess}"
    bound = {"minimum": "at least", "maximum": "at most", "exclusiveMinimum": "more than",
             "exclusiveMaximum": "less than"}.get(str(rule))
    if bound:
        return f"must be {bound} {wanted}{_is(value)}"
    counted = {"minItems": "at least {} entries", "minProperties": "at least {} entries",
               "minLength": "at least {} characters", "maxItems": "at most {} entries",
               "maxProperties": "at most {} entries",
               "maxLength": "at most {} characters"}.get(str(rule))
    if counted:
        return f"must have {counted.format(wanted)}"
    if rule == "uniqueItems":
        twice = [item for index, item in enumerate(value) if item in value[:index]]
        return f"names {shown(twice[0])} twice"
    said = schema.get("description")
    return f"must be {str(said).rstrip('.')}{tail}" if said else f"does not fit: {rule}"


def _is(value: object, hide_text: bool = False) -> str:
    if isinstance(value, dict):
        return ", is a mapping"
    if isinstance(value, list):
        return ", is a list"
    if isinstance(value, bool):
        return f", is {str(value).lower()}"
    if isinstance(value, str):
        return ", is text" if hide_text else f", is {shown(value)}"
    return f", is {value}"


def _listed(known: Sequence[str]) -> str:
    return f"; it knows {', '.join(known)}" if 0 < len(known) <= 12 else ""


def _dotted(path: Path) -> str:
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def _properties(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    found = schema.get("properties")
    return found if isinstance(found, Mapping) else {}


def _closed(schema: Schema) -> Schema:
    """Unknown keys are errors, also where a kind forgot to say so."""
    says = ("additionalProperties", "patternProperties", "unevaluatedProperties", "$ref")
    if any(word in schema for word in says):
        return schema
    return {"type": "object", **schema, "additionalProperties": False}


@cache
def _validator_class() -> Any:
    """Draft 2020-12 with our keywords `x-secret` and `x-check`."""
    from jsonschema import Draft202012Validator, ValidationError, validators

    def secret(_: object, wanted: object, value: object, __: object) -> Iterator[ValidationError]:
        if wanted and not (isinstance(value, str) and REFERENCE.fullmatch(value)):
            yield ValidationError(SECRET_MESSAGE)

    def checked(_: object, name: str, value: object, __: object) -> Iterator[ValidationError]:
        message = CHECKS[name](value) if isinstance(value, str) and name in CHECKS else None
        if message:
            yield ValidationError(message)

    extend: Any = validators.extend  # untyped in its stubs
    return extend(Draft202012Validator, {"x-secret": secret, "x-check": checked})
