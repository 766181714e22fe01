"""A system of record with a REST interface: what is assigned to one site is its backlog."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers.curl import Reply, Request
from ccfailover.providers.documents import at
from ccfailover.providers.http.flight import Ended
from ccfailover.providers.http.intake import HttpBacklog
from ccfailover.providers.http.putting import SPEAKS_OF_US
from ccfailover.providers.http.session import Session
from ccfailover.providers.http.template import render
from ccfailover.providers.http.terms import BacklogTerms, Reassign
from ccfailover.runtime import Runtime

_LATER: Final = frozenset({425, 429, 503})
_GONE: Final = frozenset({404, 410})
_LONGEST_HANDLE: Final = 8000


@dataclass(frozen=True)
class Held:
    """What a handle says: by which claim, from whom, which record and in which version."""

    claim: str
    source: str
    message: str
    version: str | None

    def __str__(self) -> str:
        return json.dumps([self.claim, self.source, self.message, self.version])

    @classmethod
    def of(cls, handle: str) -> Held | None:
        if len(handle) > _LONGEST_HANDLE:
            return None
        try:
            claim, source, message, version = json.loads(handle)
        except (ValueError, TypeError, RecursionError):
            return None
        texts = all(isinstance(each, str) and each for each in (claim, source, message))
        if not texts or not isinstance(version, str | None):
            return None
        return cls(claim, source, message, version)


@dataclass(frozen=True)
class _Seen:
    """What a record said of itself. `exists` False: there is none."""

    exists: bool = True
    assignee: str | None = None
    key: str | None = None


class HttpRecords(HttpBacklog):
    """A put assigns the very record that was claimed, by compare-and-set, and is believed only
    when the record says so itself; that resolves a lost reply at once. Nothing is deleted."""

    def __init__(self, session: Session, lever: LeverSpec, terms: BacklogTerms, how: Reassign,
                 runtime: Runtime) -> None:
        super().__init__(session, lever, terms, runtime)
        self._how = how
        self._assignee = self._fill["assignee"]

    def _handle(self, handle: str, message: str, version: object) -> str:
        return str(Held(handle, self._assignee, message, self._told(version, 200) or None))

    def _token(self, handle: str) -> str:
        held = Held.of(handle)
        return held.claim if held is not None else ""

    def check_writable(self) -> str:
        return (f"it answers ({self.measure().depth} waiting); whether records may be assigned is "
                "seen at the first of them")

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        good = super().extend([each for each in handles if Held.of(each)], seconds)
        return {handle: good.get(handle, False) for handle in handles}

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """True: the record is not assigned here any more, whenever that is asked. Never raises
        Unavailable."""
        held = [(handle, each) for handle in handles if (each := Held.of(handle)) is not None]
        seen = self._seen([each.message for _, each in held])
        gone = {handle for (handle, _), found in zip(held, seen, strict=True)
                if found is not None and found.assignee != self._assignee}
        return {handle: handle in gone for handle in handles}

    # --- assigning -----------------------------------------------------------------------------

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        results: dict[int, PutResult] = {}
        asked: list[tuple[int, Held]] = []
        requests: list[Request] = []
        for index, item in enumerate(items):
            held, key = Held.of(item.handle), keys.get(item.item_id, "")
            if held is None or not item.item_id or not key.isprintable() or not key:
                results[index] = _no(item, "it was not claimed from this system, so that there is "
                                           "no record to assign")
                continue
            try:
                requests.append(self._request(item, held, key))
            except Rejected as refusal:
                results[index] = PutResult(item.item_id, ok=False, detail=str(refusal))
                continue
            asked.append((index, held))
        ended = self._session.send_many(requests, at_a_time=self._how.at_a_time,
                                        go_on=self._goes_on)
        back: list[tuple[int, Held, Ended]] = []
        for (index, held), end in zip(asked, ended, strict=True):
            if end is None:
                results[index] = PutResult(items[index].item_id, ok=False, detail="not sent")
            elif self._not_done(end):
                results[index] = self._untouched(items[index], end)
            else:
                back.append((index, held, end))
        found = self._seen([held.message for _, held, _ in back])
        for (index, held, end), seen in zip(back, found, strict=True):
            item = items[index]
            results[index] = self._judged(item, held, keys[item.item_id], end, seen)
        wait = max((result.retry_after or 0.0 for result in results.values()), default=0.0)
        return [_waiting(results[index], wait) for index in range(len(items))]

    def _request(self, item: WorkItem, held: Held, key: str) -> Request:
        """Raises Rejected when the policy's own words make no request."""
        call = self._how.write
        where = self._session.place(call, self._ref)
        values: dict[str, object] = {
            "assignee": self._assignee, "source": held.source, "id": item.item_id, "key": key,
            "hops": item.hops, "claim": held.claim, "version": held.version, "ref": self._ref}
        body = json.dumps({"assignee": self._assignee, "hops": item.hops}).encode()
        if call.body is not None:
            try:
                body = render(call.body, values)
            except ValueError as error:
                raise Rejected(f"the body template fails: {error}", provider=self._session.name,
                               where=where, not_done="nothing was sent",
                               hint=f"it gets {', '.join(values)}") from None
        headers = {"Content-Type": "application/json"}
        if "idempotency-key" not in {name.lower() for name in call.headers}:
            headers["Idempotency-Key"] = key
        if self._how.if_match:
            if held.version is None:
                raise Rejected("the claim gave no version to compare with", where=where,
                               provider=self._session.name, not_done="nothing was sent",
                               hint="say under `claim` where the `version` stands")
            quoted = held.version.startswith(('"', "W/"))
            headers["If-Match"] = held.version if quoted else f'"{held.version}"'
        self._session.check_json(call, body, headers, where, "nothing was sent")
        return self._session.request(
            call, self._ref, writes=True, body=body, key=key, headers=headers,
            fill={**self._fill, "message": held.message, "claim": held.claim})

    def _not_done(self, ended: Ended) -> bool:
        """Is it certain that this request assigned nothing, and no other will do better now?"""
        if isinstance(ended, Reply):
            return ended.status in _LATER or ended.status in SPEAKS_OF_US - _GONE
        return not (isinstance(ended, Unavailable) and ended.in_doubt)

    def _goes_on(self, ended: Ended) -> bool:
        return not self._not_done(ended)

    def _untouched(self, item: WorkItem, ended: Ended) -> PutResult:
        if not isinstance(ended, Reply):
            return PutResult(item.item_id, ok=False, detail=str(ended))
        if ended.status == 401:
            self._session.forget()
        return PutResult(item.item_id, ok=False, detail=f"replied {ended.status}",
                         retry_after=self._session.retry_after(ended))

    def _judged(self, item: WorkItem, held: Held, key: str, ended: Ended,
                seen: _Seen | None) -> PutResult:
        if seen is None:
            return PutResult(item.item_id, ok=False, in_doubt=True,
                             detail="the record could not be read back")
        if not seen.exists:
            return _no(item, "there is no such record any more")
        if seen.assignee == self._assignee:
            if self._how.key is None or seen.key == key:
                return PutResult(item.item_id, ok=True, target_ref=held.message)
            return _no(item, "somebody else has assigned it there")
        if seen.assignee != held.source:
            return _no(item, "somebody has assigned it elsewhere meanwhile")
        if isinstance(ended, Reply) and 400 <= ended.status < 500 and ended.status != 408:
            return _no(item, "it was changed, locked or begun since it was claimed, or its claim "
                             f"has ended (replied {ended.status})")
        return PutResult(item.item_id, ok=False, in_doubt=True,
                         detail="the record is still where it was; the request may yet take effect")

    def _seen(self, messages: Sequence[str]) -> list[_Seen | None]:
        """What each record says of itself; None: it did not answer."""
        call = self._how.read
        where = self._session.place(call, self._ref)
        requests = [self._session.request(call, self._ref, writes=False, body=None,
                                          fill={**self._fill, "message": message})
                    for message in messages]
        ended = self._session.send_many(requests, at_a_time=self._how.at_a_time)
        return [self._said(each, where) for each in ended]

    def _said(self, ended: Ended | None, where: str) -> _Seen | None:
        if not isinstance(ended, Reply):
            return None
        if ended.status in _GONE:
            return _Seen(exists=False)
        if not 200 <= ended.status < 300:
            return None
        try:
            document = self._session.document(ended, where)
        except Rejected:
            return None
        assignee = at(document, self._how.assignee)
        if not isinstance(assignee, str | None):
            return None
        key = None if self._how.key is None else at(document, self._how.key)
        return _Seen(assignee=assignee, key=key if isinstance(key, str) else None)


def _no(item: WorkItem, why: str) -> PutResult:
    """A lost compare is no doubt: the record is where somebody else has put it, or where it was."""
    return PutResult(item.item_id, ok=False, permanent=True, detail=why)


def _waiting(result: PutResult, seconds: float) -> PutResult:
    """One that was not sent waits as long as the one that was told to."""
    if result.ok or result.permanent or result.in_doubt or not seconds:
        return result
    return PutResult(result.item_id, ok=False, detail=result.detail, retry_after=seconds)
