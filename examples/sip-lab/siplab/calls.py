"""What the taps saw → what became of every call. Pure: lines in, facts out.

Times are seconds since the epoch, all by this machine's one clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from siplab.network import HOSTS

BY_ADDRESS = {address: host for host, address in HOSTS.items()}
SITES = ("hq", "acme", "message")


@dataclass
class Call:
    """One call as the edge saw it. `tries`: where it was sent, in order, and when."""

    id: str
    began: float
    tries: list[tuple[str, float]] = field(default_factory=list)
    answered: float | None = None
    site: str | None = None
    status: str = ""
    hung_up: float | None = None
    ended: float | None = None
    end_status: str = ""
    silenced: bool = False
    """Its site failed while it was in progress: nobody spoke to the caller any more."""

    @property
    def line(self) -> str:
        return self.id.partition("-")[0]

    @property
    def lost(self) -> bool:
        """Nobody ever answered it."""
        return self.answered is None

    @property
    def hung_up_well(self) -> bool:
        """It was answered, and so was its hang-up."""
        return not self.lost and self.end_status == "200"

    @property
    def dropped(self) -> bool:
        """It was answered, and its site failed meanwhile, or it did not come to a regular end."""
        return not self.lost and (self.silenced or self.end_status != "200")

    @property
    def failed(self) -> bool:
        return self.lost or self.dropped

    @property
    def rerouted(self) -> bool:
        """The edge sent it somewhere first that did not take it."""
        return not self.lost and self.site != self.tries[0][0]

    def in_progress(self, at: float) -> bool:
        """Answered before, and not over by then: its hang-up, or where that is missing for ever."""
        return (self.answered is not None and self.answered < at
                and (self.ended is None or self.end_status != "200" or self.ended >= at)
                and (self.hung_up is None or self.hung_up >= at))


@dataclass(frozen=True)
class Message:
    """One line of a tap."""

    at: float
    arrives: bool
    other: str
    what: str
    method: str
    call: str


def messages(lines: Sequence[str]) -> Iterator[Message]:
    for line in lines:
        at, way, other, what, method, call = line.split("\t")
        if method in ("INVITE", "BYE"):
            yield Message(int(at) / 1e9, way == "I", BY_ADDRESS.get(other, other), what, method,
                          call)


def calls(edge: Sequence[str]) -> list[Call]:
    """Every call that the carrier brought, in the order of arrival."""
    found: dict[str, Call] = {}
    for seen in messages(edge):
        call = found.get(seen.call)
        if seen.other == "carrier":
            if call is None and seen.what == "INVITE":
                found[seen.call] = Call(seen.call, seen.at)
            elif call is not None:
                _at_the_carrier(call, seen)
        elif call is not None and not seen.arrives and seen.what == "INVITE":
            if seen.other not in [site for site, _ in call.tries]:
                call.tries.append((seen.other, seen.at))
        elif (call is not None and seen.arrives and (seen.method, seen.what) == ("INVITE", "200")
              and call.site is None):
            call.site = seen.other
    return sorted(found.values(), key=lambda call: call.began)


def _at_the_carrier(call: Call, seen: Message) -> None:
    """What passes between the edge and whoever calls."""
    if seen.arrives:
        if seen.what == "BYE" and call.hung_up is None:
            call.hung_up = seen.at
    elif seen.method == "INVITE" and seen.what >= "200":
        if call.answered is None and not call.status:
            call.status = seen.what
            call.answered = seen.at if seen.what < "300" else None
    elif seen.method == "BYE" and seen.what >= "200" and call.ended is None:
        call.ended, call.end_status = seen.at, seen.what


def arrivals(site: Sequence[str]) -> dict[str, float]:
    """Call-ID → when its first INVITE came to that site's door."""
    first: dict[str, float] = {}
    for seen in messages(site):
        if seen.arrives and seen.what == "INVITE":
            first.setdefault(seen.call, seen.at)
    return first


def answers(site: Sequence[str]) -> dict[str, float]:
    """Call-ID → when that site first said 200 to its INVITE, as it left the door."""
    first: dict[str, float] = {}
    for seen in messages(site):
        if not seen.arrives and (seen.method, seen.what) == ("INVITE", "200"):
            first.setdefault(seen.call, seen.at)
    return first


@dataclass(frozen=True)
class Phase:
    """New loan calls that began in a stretch of the story, and what became of them."""

    name: str
    seconds: float
    new: int
    answered: Mapping[str, int]
    rerouted: int
    lost: int
    dropped: int
    slowest: float
    """Seconds that the slowest of them waited for an answer."""


def phase(name: str, all_calls: Sequence[Call], begin: float, end: float) -> Phase:
    new = [call for call in all_calls if begin <= call.began < end]
    answered = {site: sum(call.site == site and not call.lost for call in new) for site in SITES}
    return Phase(
        name, end - begin, len(new), answered, sum(call.rerouted for call in new),
        sum(call.lost for call in new), sum(call.dropped for call in new),
        max((call.answered - call.began for call in new if call.answered is not None),
            default=0.0))


@dataclass(frozen=True)
class Held:
    """Calls in progress at one site at one moment, and how many of them were cut."""

    site: str
    calls: int
    dropped: int


def held(all_calls: Sequence[Call], at: float) -> list[Held]:
    there = [call for call in all_calls if call.in_progress(at)]
    return [Held(site, sum(call.site == site for call in there),
                 sum(call.site == site and call.dropped for call in there)) for site in SITES]
