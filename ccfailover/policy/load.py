"""A policy file → `Policy`, or everything that is wrong with it in one go.

Importing this module imports none of jsonschema, opening_hours and the CEL library.
"""

from __future__ import annotations

from collections.abc import Mapping

from ccfailover.errors import PolicyError, Problem
from ccfailover.model.policy import Policy
from ccfailover.policy import dates, stamp
from ccfailover.policy.blocks import schemas_text
from ccfailover.policy.build import build
from ccfailover.policy.kinds import KindSchemas
from ccfailover.policy.read import Document, read

NOT_DONE = "nothing was read from any platform, and nothing moved"


def check(path: str, kinds: KindSchemas, *, now: int,
          validate: bool = True) -> tuple[Policy | None, list[Problem]]:
    """The policy and every problem with it, in file order; warnings among them.

    The policy is None when it cannot be used. An error with a policy all the same is one of time
    (an expired contract or licence): it must be put right, and yet must not keep anybody from
    saving customers at 3 a.m.; the guards refuse what such a lapse forbids. `now` is µs UTC.
    `validate=False` is for a file that a stamp says was valid: only what depends on the date is
    looked at then, and the schema library is not imported. Never raises for what the file holds.
    """
    document, problems = read(path)
    if document is None:
        return None, problems
    if not validate and not problems:
        policy = _trusted(document)
        if policy is not None:
            return policy, _sorted(dates.check(policy, document, now))
    return _judged(document, problems, kinds, now)


def load(path: str, kinds: KindSchemas, *, now: int,
         environ: Mapping[str, str] | None = None) -> Policy:
    """The policy. Raises PolicyError with every problem when it cannot be used (see `check`).

    With `environ`, a strict stamp spares what it vouches for: the schemas, conditions and hours.
    Names and rules are looked at all the same.
    """
    document, problems = read(path)
    if document is None:
        raise PolicyError(problems, not_done=NOT_DONE)
    if environ is None or problems:
        return _or_raise(*_judged(document, problems, kinds, now))
    known = _strict(document, kinds)
    if known is not None and stamp.is_stamped(known, environ):
        policy = _ruled(document, kinds)
        if policy is not None:
            return policy
    return _stamped(document, kinds, now, environ)


def load_quick(path: str, kinds: KindSchemas, *, now: int, environ: Mapping[str, str]) -> Policy:
    """As `load`, for verbs that only look: a file that was found valid before is not seen again.

    Leaves its stamps when it had to validate; see `stamp`.
    """
    document, problems = read(path)
    if document is None or problems:
        raise PolicyError(problems, not_done=NOT_DONE)
    if stamp.is_stamped(stamp.digest(document.sha256), environ):
        policy = _trusted(document)
        if policy is not None:
            return policy
    return _stamped(document, kinds, now, environ)


def _stamped(document: Document, kinds: KindSchemas, now: int,
             environ: Mapping[str, str]) -> Policy:
    """Validate in full, and leave both stamps for the next time. Raises PolicyError."""
    before = _strict(document, kinds)
    policy = _or_raise(*_judged(document, [], kinds, now))
    stamp.put(stamp.digest(document.sha256), environ)
    # What was upgraded while we looked must be looked at again.
    if before is not None and before == _strict(document, kinds):
        stamp.put(before, environ)
    return policy


def _strict(document: Document, kinds: KindSchemas) -> str | None:
    schemas = schemas_text(document.data, kinds)
    return None if schemas is None else stamp.strict(document.sha256, schemas)


def _or_raise(policy: Policy | None, problems: list[Problem]) -> Policy:
    if policy is None:
        raise PolicyError(problems, not_done=NOT_DONE)
    return policy


def _judged(document: Document, problems: list[Problem], kinds: KindSchemas,
            now: int) -> tuple[Policy | None, list[Problem]]:
    """Everything that can be said of what was read, beside what reading it said."""
    problems = [*problems, *_static(document, kinds)]
    if any(problem.is_error for problem in problems):
        return None, _sorted(problems)
    from ccfailover.policy import rules

    policy = build(document)
    problems += rules.check(policy, document, kinds)
    broken = any(problem.is_error for problem in problems)
    problems += dates.check(policy, document, now)
    return (None if broken else policy), _sorted(problems)


def _ruled(document: Document, kinds: KindSchemas) -> Policy | None:
    """With names and rules checked, which need no library. None when one of them is broken."""
    from ccfailover.policy import references, rules

    if any(problem.is_error for problem in references.check(document)):
        return None
    policy = _trusted(document)
    if policy is None or any(one.is_error for one in rules.check(policy, document, kinds)):
        return None
    return policy


def _trusted(document: Document) -> Policy | None:
    """Without checks. None when the stamp was wrong about the file: check it, then."""
    try:
        return build(document)
    except (AttributeError, KeyError, TypeError, ValueError, ArithmeticError):
        return None


def _static(document: Document, kinds: KindSchemas) -> list[Problem]:
    from ccfailover.policy import expressions, references, shape

    return [*shape.check(document, kinds), *references.check(document),
            *expressions.check(document)]


def _sorted(problems: list[Problem]) -> list[Problem]:
    """In file order, each said once."""
    seen: dict[tuple[int, int, str], Problem] = {}
    for problem in problems:
        seen.setdefault((problem.line, problem.column, problem.message), problem)
    return sorted(seen.values(), key=lambda one: (one.line, one.column))
