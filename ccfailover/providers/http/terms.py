"""The policy's `backlog` block as objects. The schema has checked their form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from ccfailover.model.capabilities import Capabilities
from ccfailover.providers.http.settings import Call, call_of
from ccfailover.providers.params import mapping, seconds, text

AT_A_TIME: Final = 8
MAX_ITEM: Final = 262_144
_LATER: Final = frozenset({425, 429, 503})
Answers = frozenset[int | str]


@dataclass(frozen=True)
class Results:
    """Where the reply to a batch says what became of each item."""

    pointer: str
    key: str | None
    status: str
    ref: str | None


@dataclass(frozen=True)
class PutTerms:
    """`item`: the template of one item within a batch. `ref`: where the acknowledgement stands."""

    call: Call
    item: str | None
    batch: int
    at_a_time: int
    accepted: Answers
    duplicate: Answers
    refused: Answers
    later: Answers
    ref: str | None
    results: Results | None


@dataclass(frozen=True)
class ClaimTerms:
    """Pointers into one entry of the list; None: the interface has no such thing."""

    call: Call
    pointer: str
    message: str
    handle: str
    body: str
    encoding: str
    others: Mapping[str, str]


@dataclass(frozen=True)
class OfClaims:
    """A call about claims: one for each, or (with `done`) one for all of them."""

    call: Call
    gone: frozenset[int]
    done: str | None


@dataclass(frozen=True)
class Reassign:
    write: Call
    if_match: bool
    read: Call
    assignee: str
    key: str | None
    at_a_time: int


@dataclass(frozen=True)
class BacklogTerms:
    """`oldest`, `hidden`: None when the interface does not tell."""

    measure: Call
    visible: str
    hidden: str | None
    oldest: str | None
    put: PutTerms | None
    claim: ClaimTerms | None
    extend: OfClaims | None
    release: OfClaims | None
    settle: OfClaims | None
    reassign: Reassign | None


def backlog_terms(block: Mapping[str, object]) -> BacklogTerms | None:
    """None when nothing is described that could be measured, or nothing to do beside that."""
    found = mapping(block.get("backlog"))
    measure = mapping(found.get("measure"))
    put, claim = mapping(found.get("put")), mapping(found.get("claim"))
    reassign = mapping(found.get("reassign"))
    if not measure or not (put or claim or reassign):
        return None
    return BacklogTerms(
        measure=call_of(measure, "GET"), visible=text(measure.get("visible")),
        hidden=_pointer(measure, "hidden"), oldest=_pointer(measure, "oldest"),
        put=_put(put) if put else None, claim=_claim(claim) if claim else None,
        extend=_of_claims(found, "extend"), release=_of_claims(found, "release"),
        settle=_of_claims(found, "settle", "DELETE"),
        reassign=_reassign(reassign) if reassign else None)


def able(found: Capabilities, block: Mapping[str, object], assignee: str | None) -> Capabilities:
    """`found`, with what the described backlog can do."""
    terms, put = backlog_terms(block), mapping(mapping(block.get("backlog")).get("put"))
    told, largest = put.get("idempotent"), put.get("max_item_bytes")
    if assignee is not None:  # a compare-and-set that has succeeded never does again
        told = True
    return replace(
        found, deadline_first="as the interface gives them out",
        backlogs=terms is not None and (terms.reassign if assignee else terms.put
                                        or terms.claim) is not None,
        claims=terms is not None and terms.claim is not None, assignee=assignee,
        idempotent_put=told not in (None, False),
        put_window=None if isinstance(told, bool | None) else seconds(told, 0.0),
        max_item_bytes=largest if isinstance(largest, int) else MAX_ITEM)


def _put(block: Mapping[str, object]) -> PutTerms:
    results = mapping(block.get("results"))
    later = _answers(block, "later")
    return PutTerms(
        call=call_of(block, "POST"), item=_pointer(block, "item"), batch=_count(block, "batch", 1),
        at_a_time=_count(block, "at_a_time", AT_A_TIME),
        accepted=_answers(block, "accepted"), duplicate=_answers(block, "duplicate"),
        refused=_answers(block, "refused"), later=later or _LATER, ref=_pointer(block, "id"),
        results=Results(text(results.get("list")), _pointer(results, "key"),
                        text(results.get("status")), _pointer(results, "id"))
        if results else None)


def _claim(block: Mapping[str, object]) -> ClaimTerms:
    names = ("submitted", "created", "hops", "receives", "attributes", "version")
    return ClaimTerms(
        call=call_of(block, "POST"), pointer=text(block.get("list")),
        message=text(block.get("message")), handle=text(block.get("handle")),
        body=text(block.get("body_at")), encoding=text(block.get("encoding"), "base64"),
        others={name: text(block.get(name)) for name in names if name in block})


def _of_claims(found: Mapping[str, object], name: str, method: str = "POST") -> OfClaims | None:
    block = mapping(found.get(name))
    if not block:
        return None
    gone = block.get("gone")
    statuses = gone if isinstance(gone, list | tuple) else [404, 409, 410, 412]
    return OfClaims(call_of(block, method), frozenset(int(each) for each in statuses),
                    _pointer(block, "done"))


def _reassign(block: Mapping[str, object]) -> Reassign:
    write, read = mapping(block.get("write")), mapping(block.get("read"))
    return Reassign(write=call_of(write, "PATCH"), if_match=write.get("if_match") is True,
                    read=call_of(read, "GET"), assignee=text(read.get("assignee")),
                    key=_pointer(read, "key"), at_a_time=_count(block, "at_a_time", AT_A_TIME))


def _answers(block: Mapping[str, object], name: str) -> Answers:
    given = block.get(name)
    return frozenset(given) if isinstance(given, list | tuple) else frozenset()


def _count(block: Mapping[str, object], name: str, default: int) -> int:
    value = block.get(name)
    return value if isinstance(value, int) else default


def _pointer(block: Mapping[str, object], name: str) -> str | None:
    value = block.get(name)
    return value if isinstance(value, str) else None

