"""The policy's blocks as objects. The schema has checked their form; the lever's keys win."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ccfailover.errors import UsageError
from ccfailover.providers.params import mapping, text, texts


@dataclass(frozen=True)
class Call:
    """One request as the policy describes it."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: str | None = None


@dataclass(frozen=True)
class ListShares:
    """Shares given as a list of objects: where the list is, and its two keys."""

    pointer: str
    name: str
    percent: str


@dataclass(frozen=True)
class RouteSettings:
    """`destinations`: site or treatment → platform's name; empty means names are the same.
    `version`: `etag`, a pointer, or None when the switch has none."""

    destinations: Mapping[str, str]
    read: Call
    shares: str | ListShares
    version: str | None
    shift: Call | None
    if_match: bool
    measure: Call | None
    values: Mapping[str, str]
    step: int


@dataclass(frozen=True)
class GateSettings:
    read: Call
    pointer: str
    equals: object
    write: Call


def merged(params: Mapping[str, object], lever: Mapping[str, object]) -> dict[str, object]:
    """The provider's blocks with the lever's laid over them: `route`, `gate` and `backlog` key by
    key, `destinations` as a whole."""
    block = dict(params)
    for name in ("route", "gate", "backlog"):
        if name in params or name in lever:
            block[name] = {**mapping(params.get(name)), **mapping(lever.get(name))}
    if "destinations" in lever:
        block["destinations"] = lever["destinations"]
    return block


def route_settings(block: Mapping[str, object]) -> RouteSettings | None:
    """None when the block describes no readable route. Raises UsageError when two destinations
    bear one platform name: a read could not tell them apart."""
    route = mapping(block.get("route"))
    read = mapping(route.get("read"))
    if not read:
        return None
    destinations = texts(block.get("destinations"))
    if len(set(destinations.values())) != len(destinations):
        raise UsageError("two destinations have the same name on the platform",
                         hint="give every site and treatment its own name in destinations")
    shift, measure, where = (mapping(route.get(k)) for k in ("shift", "measure", "read"))
    shares = where.get("shares")
    step = route.get("step")
    return RouteSettings(
        destinations=destinations,
        read=call_of(read, "GET"),
        shares=shares if isinstance(shares, str) else _list_shares(mapping(shares)),
        version=text(read.get("version")) or None,
        shift=call_of(shift, "PUT") if shift else None,
        if_match=shift.get("if_match") is True,
        measure=call_of(measure, "GET") if measure else None,
        values=texts(measure.get("values")),
        step=step if isinstance(step, int) else 1,
    )


def gate_settings(block: Mapping[str, object]) -> GateSettings | None:
    gate = mapping(block.get("gate"))
    read, write = mapping(gate.get("read")), mapping(gate.get("set"))
    if not read or not write:
        return None
    return GateSettings(
        read=call_of(read, "GET"), pointer=text(read.get("open")), equals=read.get("equals"),
        write=call_of(write, "PUT"),
    )


def call_of(block: Mapping[str, object], method: str) -> Call:
    body = block.get("body")
    return Call(
        text(block.get("method"), method), text(block.get("path")), texts(block.get("headers")),
        body if isinstance(body, str) else None,
    )


def _list_shares(block: Mapping[str, object]) -> ListShares:
    return ListShares(text(block.get("list")), text(block.get("name")), text(block.get("percent")))
