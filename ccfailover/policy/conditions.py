"""Conditions: CEL with declared, typed variables. The only module that imports the CEL library.

A missing value makes a condition unknown (None), never false and never true, unless the other
side of `||` or `&&` decides alone, as CEL has it. The library bounds depth (32) and iterations.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from datetime import date, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from ccfailover.model.policy import Queue, Site
from ccfailover.model.shares import TREATMENTS
from ccfailover.policy.values import did_you_mean

if TYPE_CHECKING:
    from ccfailover.model.policy import Policy

MAX_CHARACTERS = 4000
SECONDS_MAX = 315_576_000_000
"""CEL's longest duration."""

TOKEN = re.compile(
    r"""(?P<comment>//[^\n]*)
      | (?P<text>[rRbB]{0,2}(?:\"{3}.*?\"{3}|'{3}.*?'{3}|"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'))
      | (?P<path>[A-Za-z_]\w*(?:\s*\.\s*[A-Za-z_]\w*)*)
      | (?P<number>\d[\w.]*)
      | (?P<other>\S)""",
    re.VERBOSE | re.DOTALL,
)
WHERE = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
UNDECLARED = re.compile(r"undeclared reference to '([^']*)'")
NO_OVERLOAD = re.compile(r"no matching overload for '([^']*)' applied to '\(([^)]*)\)'")
DURATION_CALL = re.compile(r"""\bduration\s*\(\s*(["'])([^"'\n]*)\1\s*\)""")
MISSING = re.compile(r'No value with name "([^"]*)" found')
NUMBER = re.compile(r"[-+]?\d{1,18}(\.\d{1,12})?")
"""Messages often carry numbers as text."""
WORDS = {"and": "&&", "or": "||", "not": "!"}


class Kind(str, Enum):
    """What a variable holds."""

    STRING = "text"
    INT = "a whole number"
    DOUBLE = "a number with a decimal point"
    BOOL = "true or false"
    DURATION = "a duration"
    DYN = "anything"
    STRINGS = "a list of texts"


class ConditionError(ValueError):
    """The text is not a condition; `line` and `column` (one-based) are places in the text."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


class Condition:
    """A checked expression that is true or false. Raises ConditionError."""

    def __init__(self, text: str, declared: Mapping[str, Kind]) -> None:
        from cel_expr_python import cel

        self.text = text
        if len(text) > MAX_CHARACTERS:
            raise ConditionError(f"longer than {MAX_CHARACTERS} characters", 1, 1)
        paths = list(_paths(text))
        self.names = frozenset(
            name for path, _ in paths if (name := _declared_in(path, declared)) is not None
        )
        self._kinds = {name: declared[name] for name in sorted(self.names)}
        # Only what the text names is declared: a policy of a thousand sites costs no more.
        types = {name: _cel_type(cel, kind) for name, kind in self._kinds.items()}
        self._env = cel.NewEnv(variables=types)
        try:
            self._program = self._env.compile(text)
        except RuntimeError as error:
            raise _explained(str(error), text, paths, declared) from None
        answer = self._program.return_type()
        if answer not in (cel.Type.BOOL, cel.Type.DYN):
            raise ConditionError("must be true or false, such as "
                                 'site.hq.state == "down"; this gives '
                                 f"{_type_name(answer.name().lower())}", 1, 1)
        self._check_durations()

    def _check_durations(self) -> None:
        for found in DURATION_CALL.finditer(self.text):
            value = self._env.compile(f'duration("{found[2]}")').eval(data={})
            if value.type().name() == "ERROR":
                line, column = _line_column(self.text, found.start(2))
                raise ConditionError(f'duration("{found[2][:30]}") is not a duration; its units '
                                     'are h, m and s, such as duration("1h30m")', line, column)

    def evaluate(self, values: Mapping[str, object]) -> bool | None:
        """True, false, or None: what would decide it is unknown.

        Values that are None or absent are missing. Durations are seconds or `timedelta`. Never
        raises: an error while evaluating (division by zero) makes it unknown, too.
        """
        return self.explain(values)[0]

    def explain(self, values: Mapping[str, object]) -> tuple[bool | None, str]:
        """As `evaluate`, and why it is unknown ("" when it is known)."""
        known = {name: converted for name, kind in self._kinds.items()
                 if (converted := _convert(values.get(name), kind)) is not None}
        try:
            answer = self._program.eval(data=known)
        except RuntimeError as error:
            return None, str(error).split("[")[0].strip()
        value = answer.value()
        if isinstance(value, bool) and answer.type().name() == "BOOL":
            return value, ""
        missing = MISSING.search(str(value))
        if missing:
            return None, f"{missing[1]} is unknown"
        return None, str(value).removeprefix("INVALID_ARGUMENT: ")[:200]


def world_variables(policy: Policy) -> Mapping[str, Kind]:
    """What `when` and `clear` of a trigger may name."""
    return variables_of(policy.sites, policy.dependencies, policy.queues)


def variables_of(sites: Iterable[str], dependencies: Iterable[str],
                 queues: Iterable[str]) -> dict[str, Kind]:
    """As `world_variables`, of names alone."""
    places = list(sites)
    out: dict[str, Kind] = {}
    for site in places:
        out[f"site.{site}.state"] = Kind.STRING
        out[f"site.{site}.open"] = Kind.BOOL
    for name in dependencies:
        out[f"dependency.{name}.state"] = Kind.STRING
    for queue in queues:
        out[f"queue.{queue}.depth"] = Kind.INT
        out[f"queue.{queue}.oldest"] = Kind.DURATION
        out[f"queue.{queue}.arrivals_per_hour"] = Kind.DOUBLE
        for site in places:
            out[f"queue.{queue}.depth_at.{site}"] = Kind.INT
        for destination in (*places, *sorted(TREATMENTS)):
            out[f"queue.{queue}.share.{destination}"] = Kind.INT
    return out


def item_variables(queue: Queue) -> Mapping[str, Kind]:
    """What `eligible` may name: the item's mapped and declared fields, and the target.

    `item.state` is what the policy's `item:` calls `state`, whatever the message calls it.
    """
    return item_variables_of(queue.item, queue.fields)


def item_variables_of(item: Iterable[str], fields: Mapping[str, str]) -> dict[str, Kind]:
    """As `item_variables`, of names alone. `fields` gives each name `text` or `number`."""
    out = {f"item.{name}": Kind.STRING for name in item}
    out.update({f"item.{name}": Kind.DOUBLE if kind == "number" else Kind.STRING
                for name, kind in fields.items()})
    return out | {"target.name": Kind.STRING, "target.licences": Kind.STRINGS,
                  "target.criteria_version": Kind.STRING, "target.data_classes": Kind.STRINGS}


def target_values(site: Site, on: date) -> dict[str, object]:
    """What `target.*` is for one site on one day; a lapsed licence is none.

    What the site does not declare is missing, hence unknown: an eligibility that asks for it
    says no.
    """
    licences = site.licences
    return {
        "target.name": site.name,
        "target.licences": None if licences is None else sorted(
            state for state, until in licences.items() if until is None or until >= on),
        "target.criteria_version": site.criteria_version,
        "target.data_classes": None if site.data_classes is None else sorted(site.data_classes),
    }


def _cel_type(cel: Any, kind: Kind) -> Any:
    if kind is Kind.STRINGS:
        return cel.Type.List(cel.Type.STRING)
    return getattr(cel.Type, kind.name)


def _convert(value: object, kind: Kind) -> object:
    """The value as CEL takes it, or None when it is missing or not of its kind."""
    if isinstance(value, Enum):
        value = value.value
    if value is None or kind is Kind.DYN:
        return value
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if kind is Kind.STRING:
        whole = isinstance(value, int) and not isinstance(value, bool)
        return value if isinstance(value, str) else str(value) if whole else None
    if kind is Kind.BOOL:
        return value if isinstance(value, bool) else None
    if kind is Kind.DURATION:
        if number and abs(value) < SECONDS_MAX:  # type: ignore[arg-type]
            return timedelta(seconds=value)  # type: ignore[arg-type]
        return value if isinstance(value, timedelta) else None
    if kind is Kind.STRINGS:
        if isinstance(value, Collection) and not isinstance(value, (str, bytes)):
            return sorted(str(part) for part in value)
        return None
    if kind is Kind.DOUBLE and isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        return float(value)
    if not number or value != value:
        return None
    if kind is Kind.INT:
        whole = abs(value) < 2**63 and value == int(value)  # type: ignore[arg-type, call-overload]
        return int(value) if whole else None  # type: ignore[call-overload]
    return float(value)  # type: ignore[arg-type]


def _paths(text: str) -> Iterable[tuple[str, int]]:
    """Every dotted name outside texts and comments, without blanks, and where it begins."""
    for found in TOKEN.finditer(text):
        if found.lastgroup == "path":
            yield re.sub(r"\s+", "", found[0]), found.start()


def _declared_in(path: str, declared: Mapping[str, Kind]) -> str | None:
    """The declared variable that a dotted name begins with (`a.b.size` names `a.b`)."""
    while path:
        if path in declared:
            return path
        path = path.rpartition(".")[0]
    return None


def _line_column(text: str, offset: int) -> tuple[int, int]:
    return text.count("\n", 0, offset) + 1, offset - (text.rfind("\n", 0, offset) + 1) + 1


def _explained(error: str, text: str, paths: Iterable[tuple[str, int]],
               declared: Mapping[str, Kind]) -> ConditionError:
    """The library's first complaint as a sentence, with a place and a way out."""
    found = WHERE.search(error)
    if found is None:
        deep = "recursion" in error
        return ConditionError("nested too deeply" if deep else error.split("[")[0][:200], 1, 1)
    line, column, said = int(found[1]), int(found[2]), found[3]
    undeclared = UNDECLARED.search(said)
    if undeclared:
        return _unknown_name(undeclared[1], text, paths, declared, (line, column))
    overload = NO_OVERLOAD.search(said)
    if overload:
        return ConditionError(_mismatch(overload[1], overload[2]), line, column)
    row = text.split("\n")[line - 1] if line <= len(text.split("\n")) else ""
    rest = row[column - 1 :]
    word = re.match(r"\w+", rest)
    if word and word[0].lower() in WORDS:
        return ConditionError(f"write {WORDS[word[0].lower()]} instead of `{word[0]}`",
                              line, column)
    if re.search(r"\bnot\s+$", row[: column - 1]):
        return ConditionError("write ! instead of `not`", line, column)
    if re.match(r"=(?!=)", rest):
        return ConditionError("write == to compare; a single = means nothing here", line, column)
    if "<EOF>' expecting" in said or not rest.strip():
        return ConditionError("the condition ends too soon", line, column)
    near = rest.strip().split("\n")[0][:30]
    return ConditionError(f"not understood from `{near}` on ({said.split(' expecting')[0]})",
                          line, column)


def _unknown_name(name: str, text: str, paths: Iterable[tuple[str, int]],
                  declared: Mapping[str, Kind], place: tuple[int, int]) -> ConditionError:
    whole = name
    for path, offset in paths:
        if path == name or path.startswith(f"{name}."):
            place, whole = _line_column(text, offset), path
            break
        if path.endswith(f".{name}") and _declared_in(path, declared):
            known = _declared_in(path, declared)
            return ConditionError(f"`{name}` is not a function of `{known}`",
                                  *_line_column(text, text.find(name, offset)))
    if f"{name}(" in text.replace(" ", ""):
        return ConditionError(f"there is no function `{name}`", *place)
    guess = did_you_mean(whole, declared)
    if not guess and "-" in text:
        guess = "; a dash is a minus here: names use underscores"
    return ConditionError(f"`{whole}` is not known here{guess}", *place)


def _type_name(name: str) -> str:
    return {"string": "text", "int": "a whole number", "double": "a number with a decimal point",
            "bool": "true or false", "google.protobuf.duration": "a duration",
            "duration": "a duration", "list": "a list"}.get(name.strip(), name.strip())


def _mismatch(operator: str, types: str) -> str:
    kinds = [part.strip().lower() for part in types.split(",")]
    shown = operator.strip("_@")
    if set(kinds) == {"int", "double"}:
        return (f"{shown} compares a number that has a decimal point with one that has none; "
                "write 600.0 instead of 600 (or the other way round)")
    if "google.protobuf.duration" in kinds and len(set(kinds)) > 1:
        return f'{shown} compares a duration with {_other(kinds)}; write it as duration("2h")'
    names = " and ".join(_type_name(kind) for kind in kinds)
    return f"`{shown}` cannot be applied to {names}"


def _other(kinds: list[str]) -> str:
    rest = [kind for kind in kinds if kind != "google.protobuf.duration"]
    return _type_name(rest[0])
