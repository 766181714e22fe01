"""A backlog behind a provider's intake interface: put in and, where it allows that, taken back."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final

from ccfailover.errors import Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.model.policy import LeverSpec
from ccfailover.providers import Backlog, BacklogMeasure
from ccfailover.providers.bodies import understand
from ccfailover.providers.curl import Reply
from ccfailover.providers.documents import MISSING, at
from ccfailover.providers.http.putting import Putting
from ccfailover.providers.http.session import Session
from ccfailover.providers.http.template import render
from ccfailover.providers.http.terms import AT_A_TIME, BacklogTerms, ClaimTerms, OfClaims
from ccfailover.providers.params import seconds, texts
from ccfailover.runtime import SECOND, Runtime

BATCH: Final = 10
_CLAIM_SECONDS: Final = 120.0
_LARGEST: Final = 262_144
_MOST_ATTRIBUTES: Final = 50
_JSON: Final = {"Content-Type": "application/json"}
_PUT_ONLY = "this backlog takes work in and gives none back: the policy describes no `claim` for it"


class HttpBacklog(Backlog):
    """Threads may share it."""

    def __init__(self, session: Session, lever: LeverSpec, terms: BacklogTerms,
                 runtime: Runtime) -> None:
        self._session, self._lever, self._terms, self._runtime = session, lever, terms, runtime
        self._ref = lever.ref
        self._fill = {"assignee": str(lever.params.get("assignee") or "")}
        self._item = texts(lever.params.get("item"))
        largest = lever.params.get("max_item_bytes")
        self._max_item = largest if isinstance(largest, int) else _LARGEST
        self.claim_seconds = seconds(lever.params.get("claim_seconds"), _CLAIM_SECONDS)
        most = lever.params.get("max_receives")
        self._most = most if isinstance(most, int) else None

    # --- looking -------------------------------------------------------------------------------

    def measure(self) -> BacklogMeasure:
        terms = self._terms
        document, _ = self._session.read(terms.measure, self._ref, self._fill)
        counts = []
        for pointer in (terms.visible, terms.hidden):
            value = 0 if pointer is None else at(document, pointer)
            if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 10**12:
                raise self._nonsense(f"no count at {pointer or 'the top'}")
            counts.append(value)
        oldest = None if terms.oldest is None else self._age(at(document, terms.oldest))
        return BacklogMeasure(counts[0], counts[1], oldest)

    def _age(self, value: object) -> float | None:
        """Seconds, or the time since which it waits; what is neither is not known."""
        if isinstance(value, int | float) and not isinstance(value, bool):
            number = float(value) if abs(value) < 1e12 else math.inf
            return max(0.0, number) if math.isfinite(number) else None
        if isinstance(value, str) and len(value) <= 64:
            try:
                since = datetime.fromisoformat(value)
            except ValueError:
                return None
            if since.tzinfo is not None:
                return max(0.0, self._runtime.now() / SECOND - since.timestamp())
        return None

    def max_receives(self) -> int | None:
        return self._most

    def check_writable(self) -> str:
        """An interface has no put that puts nothing in: what can be proved is that it answers."""
        depth = self.measure().depth
        if self._terms.put is None:
            raise self._refused("the policy describes no `put` for this backlog")
        return f"it answers ({depth} waiting); whether it takes work is seen at the first put"

    # --- taking work in ------------------------------------------------------------------------

    def put(self, items: Sequence[WorkItem], *, keys: Mapping[str, str]) -> Sequence[PutResult]:
        if not items:
            return []
        if self._terms.put is None:
            return [PutResult(item.item_id, ok=False,
                              detail="the policy describes no `put` for this backlog")
                    for item in items]
        return Putting(self._session, self._ref, self._terms.put).put(items, keys)

    # --- giving it back ------------------------------------------------------------------------

    def claim(self, limit: int) -> Sequence[WorkItem]:
        """At most ten a call, as everywhere. Raises Rejected where nothing can be taken back."""
        terms = self._claims()
        if limit < 1:
            return []
        limit = min(limit, BATCH)
        values: dict[str, object] = {
            "limit": limit, "seconds": self.claim_seconds, "ref": self._ref, **self._fill}
        fill = {**self._fill, "limit": str(limit), "seconds": f"{self.claim_seconds:g}"}
        reply = self._session.write(
            terms.call, self._ref, key="", headers={}, values=values, fill=fill,
            default={"limit": limit, "seconds": self.claim_seconds}, not_done="nothing was claimed",
            once=True)
        where = self._session.place(terms.call, self._ref)
        if reply.status == 204:
            return []
        try:
            document = self._session.document(reply, where)
        except Rejected as error:
            # It may have given us items: their claims end by themselves.
            raise Unavailable(error.what, in_doubt=True, provider=self._session.name,
                              where=where) from None
        found = at(document, terms.pointer)
        if not isinstance(found, list):
            raise self._nonsense(f"no list of items at {terms.pointer or 'the top'}")
        return [self._decoded(entry, terms) for entry in found[:limit]]

    def _claims(self) -> ClaimTerms:
        if self._terms.claim is None:
            raise Rejected(_PUT_ONLY, provider=self._session.name, where=self._ref,
                           not_done="nothing was claimed",
                           hint="what was put in there stays to its end; follow it with its owner")
        return self._terms.claim

    def _decoded(self, entry: object, terms: ClaimTerms) -> WorkItem:
        message = self._told(at(entry, terms.message), 200)
        handle = self._told(at(entry, terms.handle), 2000)
        if not message or not handle:
            raise self._nonsense("an item lacks its id or the handle of its claim")
        raw = _body(at(entry, terms.body), terms.encoding)
        found = understand(raw or b"", self._item, self._max_item)
        problem = found.problem
        if raw is None:
            problem = f"the body is not {terms.encoding}, as the policy says"

        def other(name: str) -> object:
            return at(entry, terms.others[name]) if name in terms.others else MISSING

        return WorkItem(
            item_id=found.item_id if problem is None else "", message_id=message, body=raw or b"",
            fields=found.fields, handle=self._handle(handle, message, other("version")),
            submitted=(self._told(other("submitted"), 64) or found.submitted
                       or self._told(other("created"), 64) or None),
            hops=_small(other("hops"), 0), receives=_small(other("receives"), 1), problem=problem,
            attributes=_attributes(other("attributes")))

    def _handle(self, handle: str, message: str, version: object) -> str:
        return handle

    def _token(self, handle: str) -> str:
        """What the platform itself calls the claim."""
        return handle

    def extend(self, handles: Sequence[str], seconds: float) -> Mapping[str, bool]:
        """Raises Unavailable when it cannot be told for one of them."""
        self._claims()
        terms = self._terms.extend
        if seconds <= 0 and self._terms.release is not None:
            terms = self._terms.release
        if terms is None:
            return dict.fromkeys(handles, False)
        answers = self._of_claims(terms, handles, max(0.0, seconds))
        for answer in answers.values():
            if isinstance(answer, Unavailable):
                raise answer
        return {handle: answer is True for handle, answer in answers.items()}

    def settle(self, handles: Sequence[str]) -> Mapping[str, bool]:
        """Never raises Unavailable: a source that died leaves its items not deleted (False)."""
        self._claims()
        if self._terms.settle is None:
            raise self._refused("the policy describes no `settle` for this backlog")
        answers = self._of_claims(self._terms.settle, handles, 0.0)
        return {handle: answer is True for handle, answer in answers.items()}

    def _of_claims(self, terms: OfClaims, handles: Sequence[str],
                   seconds: float) -> dict[str, bool | Unavailable]:
        """Raises Rejected when the platform refuses the call as such."""
        named = list(dict.fromkeys(handles))
        batches = [named[start:start + 100] for start in range(0, len(named), 100)] \
            if terms.done is not None else [[each] for each in named]
        requests = []
        for batch in batches:
            tokens = [self._token(each) for each in batch]
            values = {"seconds": seconds, "ref": self._ref, **self._fill,
                      **({"handles": tokens} if terms.done is not None
                         else {"handle": tokens[0]})}
            body = None if terms.call.body is None else self._body_of(terms.call.body, values)
            if terms.call.body is None and terms.call.method != "DELETE":
                body = json.dumps({"seconds": seconds, **{
                    name: values[name] for name in ("handles",) if name in values}}).encode()
            requests.append(self._session.request(
                terms.call, self._ref, writes=True, body=body, headers=_JSON if body else {},
                fill={**self._fill, "handle": tokens[0], "seconds": f"{seconds:g}"}))
        where = self._session.place(terms.call, self._ref)
        ended = self._session.send_many(requests, at_a_time=AT_A_TIME)
        out: dict[str, bool | Unavailable] = {}
        unsent = Unavailable("not sent: the time was over", in_doubt=False,
                             provider=self._session.name, where=where)
        for batch, told in zip(batches, ended, strict=True):
            end = told or unsent
            if isinstance(end, Rejected):
                raise end
            answer = end if isinstance(end, Unavailable) else self._answer(terms, end, where)
            for each in batch:
                out[each] = answer if isinstance(answer, bool | Unavailable) \
                    else self._token(each) in answer
        return out

    def _answer(self, terms: OfClaims, reply: Reply,
                where: str) -> bool | Unavailable | frozenset[str]:
        if reply.status in terms.gone:
            return False
        try:
            self._session.check(reply, where, writes=True)
            if terms.done is None:
                return True
            found = at(self._session.document(reply, where), terms.done)
        except Unavailable as error:
            return error
        return frozenset(str(each) for each in found) if isinstance(found, list) else False

    def _body_of(self, template: str, values: Mapping[str, object]) -> bytes:
        try:
            return render(template, values)
        except ValueError as error:
            raise self._refused(f"the body template fails: {error}") from None

    # --- small things --------------------------------------------------------------------------

    def _told(self, value: object, longest: int) -> str:
        """A text of the peer's that may be kept; else nothing."""
        if isinstance(value, bool) or not isinstance(value, str | int):
            return ""
        said = str(value)
        usable = len(said) <= longest and said.isprintable()
        return said if usable and not self._session.holds_secret(said) else ""

    def _nonsense(self, what: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self._session.name,
                        where=self._ref)

    def _refused(self, what: str) -> Rejected:
        return Rejected(what, provider=self._session.name, where=self._ref,
                        not_done="nothing was sent", hint="see `backlog` of this provider")


def _body(value: object, encoding: str) -> bytes | None:
    """None when it is not what the policy says."""
    if encoding == "json":
        return None if value is MISSING else json.dumps(value, ensure_ascii=False).encode(
            errors="replace")
    if not isinstance(value, str):
        return None
    try:
        return value.encode() if encoding == "text" else base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None


def _small(value: object, default: int) -> int:
    good = isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 1_000_000
    return value if good and isinstance(value, int) else default


def _attributes(value: object) -> dict[str, str]:
    """What travels with an item; whatever is not a short text is somebody else's."""
    if not isinstance(value, dict):
        return {}
    kept = {name: text for name, text in value.items()
            if isinstance(text, str) and len(name) <= 200 and len(text) <= 4000}
    return dict(list(kept.items())[:_MOST_ATTRIBUTES])
