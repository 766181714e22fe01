"""Delivering to a provider's intake: rendered, several requests at a time, judged item by item."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import PutResult, WorkItem
from ccfailover.providers.curl import Reply, Request
from ccfailover.providers.documents import MISSING, at, parse
from ccfailover.providers.http.flight import Ended
from ccfailover.providers.http.session import Session
from ccfailover.providers.http.template import render
from ccfailover.providers.http.terms import Answers, PutTerms, Results

REQUEST_CAP: Final = 8 * 1_048_576
"""Bytes of one request; a batch that would be longer is cut."""
_LONGEST_REF: Final = 200
_UNSAID: Final = "the reply does not say what became of it"
SPEAKS_OF_US: Final = frozenset({401, 402, 403, 404, 405, 406, 407, 411, 421, 426, 431, 451})
"""Statuses that speak of us or of the address, and of no item."""
_JSON: Final = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class _Parcel:
    index: int
    item: WorkItem
    key: str
    text: bytes


class Putting:
    """Puts at one lever; threads may share it."""

    def __init__(self, session: Session, ref: str, terms: PutTerms) -> None:
        self._session, self._ref, self._terms = session, ref, terms
        self._where = session.place(terms.call, ref)

    def put(self, items: Sequence[WorkItem], keys: Mapping[str, str]) -> list[PutResult]:
        """One result for each item, in order; in doubt are exactly those whose reply did not
        come or does not say. A platform that asks to be left alone gets no further request."""
        results: dict[int, PutResult] = {}
        parcels = []
        for index, item in enumerate(items):
            try:
                parcels.append(self._parcel(index, item, keys))
            except ValueError as error:
                results[index] = PutResult(item.item_id, ok=False, permanent=True,
                                           detail=str(error))
        try:
            cut = self._cut(parcels)
            requests = [self._request(each) for each in cut]
        except Rejected as refusal:  # nothing has been sent
            return [results.get(index) or PutResult(item.item_id, ok=False, detail=str(refusal))
                    for index, item in enumerate(items)]
        ended = self._session.send_many(requests, at_a_time=self._terms.at_a_time,
                                        go_on=self._goes_on)
        unsent = self._unsent(ended)
        for batch, end in zip(cut, ended, strict=True):
            for parcel in batch:
                results[parcel.index] = unsent(parcel.item)
            if end is not None:
                results.update(self._judged(batch, end))
        return [results[index] for index in range(len(items))]

    # --- what is sent --------------------------------------------------------------------------

    def _parcel(self, index: int, item: WorkItem, keys: Mapping[str, str]) -> _Parcel:
        """Raises ValueError, in words for the ledger, when this item cannot travel."""
        key = keys.get(item.item_id, "")
        if not item.item_id or not key:
            raise ValueError("it has no id or no delivery key")
        if not key.isprintable():
            raise ValueError("its key cannot stand in a header")
        terms = self._terms
        template = terms.item if terms.batch > 1 else terms.call.body
        text = self._rendered(template, item, key)
        if len(text) > REQUEST_CAP:
            raise ValueError(f"it makes a request of more than {REQUEST_CAP} bytes")
        if terms.batch > 1 or template is not None:
            self._check_json(text)
        return _Parcel(index, item, key, text)

    def _rendered(self, template: str | None, item: WorkItem, key: str) -> bytes:
        values: dict[str, object] = {
            "id": item.item_id, "key": key, "submitted": item.submitted, "hops": item.hops,
            "attributes": dict(item.attributes), "ref": self._ref, "message": item.message_id}
        if template is None:
            return json.dumps({
                "id": item.item_id, "key": key, "submitted": item.submitted, "hops": item.hops,
                "attributes": dict(item.attributes),
                "base64": base64.b64encode(item.body).decode()}).encode()
        if "base64" in template:
            values["base64"] = base64.b64encode(item.body).decode()
        if "body" in template:
            try:
                values["body"] = item.body.decode()
            except UnicodeDecodeError:
                raise ValueError("its body is no text: the policy must send it as base64") from None
        if "document" in template:
            try:
                parse(item.body)
            except ValueError as error:
                raise ValueError(f"its body is no JSON document: {error}") from None
            values["document"] = item.body.decode()
        try:
            return render(template, values)
        except ValueError as error:
            raise ValueError(f"the template of the request fails: {error}") from None

    def _check_json(self, text: bytes) -> None:
        try:
            self._session.check_json(self._terms.call, text, _JSON, self._where, "")
        except Rejected as error:
            raise ValueError(error.what) from None

    def _cut(self, parcels: Sequence[_Parcel]) -> list[list[_Parcel]]:
        """As many a request as the provider takes, and no request too long."""
        cut: list[list[_Parcel]] = []
        size = 0
        for parcel in parcels:
            if (not cut or len(cut[-1]) >= self._terms.batch
                    or size + len(parcel.text) > REQUEST_CAP):
                cut.append([])
                size = 0
            cut[-1].append(parcel)
            size += len(parcel.text) + 1
        return cut

    def _request(self, batch: Sequence[_Parcel]) -> Request:
        """Raises Rejected when the policy's own words make no request."""
        terms, key, body = self._terms, batch[0].key, batch[0].text
        if terms.batch > 1:
            key = hashlib.sha256("\n".join(each.key for each in batch).encode()).hexdigest()
            items = b",".join(each.text for each in batch).decode()
            template = "[{{ items }}]" if terms.call.body is None else terms.call.body
            try:
                body = render(template, {"items": items, "key": key, "ref": self._ref})
            except ValueError as error:
                raise Rejected(f"the body template fails: {error}", provider=self._session.name,
                               where=self._where, not_done="nothing was sent",
                               hint="a batch gets items, key and ref") from None
            self._session.check_json(terms.call, body, _JSON, self._where, "nothing was sent")
        named = {name.lower() for name in terms.call.headers}
        headers = {"Content-Type": "application/json"}
        if "idempotency-key" not in named:
            headers["Idempotency-Key"] = key
        return self._session.request(
            terms.call, self._ref, writes=True, body=body, key=key, headers=headers,
            fill={"id": batch[0].item.item_id}, once=True)

    # --- what came back ------------------------------------------------------------------------

    def _goes_on(self, ended: Ended) -> bool:
        if isinstance(ended, Reply):
            return not self._later(ended) and ended.status not in SPEAKS_OF_US - self._declared()
        return isinstance(ended, Unavailable) and ended.in_doubt

    def _declared(self) -> Answers:
        terms = self._terms
        return terms.accepted | terms.duplicate | terms.refused

    def _later(self, reply: Reply) -> bool:
        return reply.status in self._terms.later

    def _unsent(self, ended: Sequence[Ended | None]) -> _Unsent:
        """What to say of those that were not begun: the reason why the others stopped us."""
        for each in ended:
            if isinstance(each, Reply) and not self._goes_on(each):
                wait = self._session.retry_after(each) if self._later(each) else None
                return _Unsent(f"not sent: it replied {each.status} before", wait)
            if isinstance(each, ProviderError) and not self._goes_on(each):
                return _Unsent(f"not sent: {each.what}", None)
        return _Unsent("not sent: the time was over", None)

    def _judged(self, batch: Sequence[_Parcel], ended: Ended) -> dict[int, PutResult]:
        if not isinstance(ended, Reply):
            doubt = isinstance(ended, Unavailable) and ended.in_doubt
            return {each.index: PutResult(each.item.item_id, ok=False, in_doubt=doubt,
                                          detail=str(ended)) for each in batch}
        if ended.status == 401:
            self._session.forget()
        wait = self._session.retry_after(ended) if self._later(ended) else None
        answer = self._answer(ended.status, wait)
        if not answer.ok:
            return {each.index: answer.of(each.item) for each in batch}
        try:
            document = self._session.document(ended, self._where) if self._reads else None
        except Rejected as error:
            return {each.index: _doubt(each.item, error.what) for each in batch}
        if self._terms.batch > 1 and self._terms.results is not None:
            return self._entries(batch, document, self._terms.results)
        ref = self._ref_at(document, self._terms.ref)
        if self._terms.ref is not None and ref is None and not answer.again:
            return {each.index: _doubt(each.item, "the reply acknowledges nothing")
                    for each in batch}
        return {each.index: answer.of(each.item, ref) for each in batch}

    @property
    def _reads(self) -> bool:
        return self._terms.ref is not None or self._terms.results is not None

    def _entries(self, batch: Sequence[_Parcel], document: object,
                 where: Results) -> dict[int, PutResult]:
        """Each item's own result; whatever the reply leaves out is in doubt."""
        found = at(document, where.pointer)
        entries = found if isinstance(found, list) else []
        by_key: dict[object, object] = {}
        if where.key is not None:
            for entry in entries:
                name = at(entry, where.key)
                if isinstance(name, str):
                    by_key[name] = MISSING if name in by_key else entry
        elif len(entries) == len(batch):
            by_key = {each.key: entry for each, entry in zip(batch, entries, strict=True)}
        results = {}
        for each in batch:
            entry = by_key.get(each.key, MISSING)
            status = at(entry, where.status)
            if entry is MISSING or isinstance(status, bool) or not isinstance(status, int | str):
                results[each.index] = _doubt(each.item, _UNSAID)
                continue
            answer = self._answer(status, None)
            ref = self._ref_at(entry, where.ref)
            if answer.ok and where.ref is not None and ref is None and not answer.again:
                results[each.index] = _doubt(each.item, "the reply acknowledges nothing")
            else:
                results[each.index] = answer.of(each.item, ref)
        return results

    def _ref_at(self, document: object, pointer: str | None) -> str | None:
        value = at(document, pointer) if pointer is not None else None
        if isinstance(value, bool) or not isinstance(value, str | int):
            return None
        ref = str(value)
        usable = 0 < len(ref) <= _LONGEST_REF and ref.isprintable()
        return ref if usable and not self._session.holds_secret(ref) else None

    def _answer(self, status: int | str, wait: float | None) -> _Answer:
        """What a status, of a reply or of one item of it, means. The policy's word goes first."""
        terms = self._terms
        said = f"replied {status}" if isinstance(status, int) else "refused it"
        if status in terms.accepted:
            return _Answer(True)
        if status in terms.duplicate:
            return _Answer(True, again=True)
        if status in terms.refused:
            return _Answer(False, permanent=True, detail=said)
        if status in terms.later:
            return _Answer(False, detail=f"{said}: later", wait=wait)
        if isinstance(status, str):
            return _Answer(False, doubt=True, detail="it said what the policy does not explain")
        if 200 <= status < 300 and not terms.accepted:
            return _Answer(True)
        if status in SPEAKS_OF_US or 300 <= status < 400:
            return _Answer(False, detail=f"{said}: check url, path and auth of the provider")
        if 400 <= status < 500 and status not in (408, 409):
            return _Answer(False, permanent=True, detail=said)
        # 409 that nobody explains may mean that it has the item, or is just taking it.
        return _Answer(False, doubt=True, detail=f"{said}: it may have taken effect")


@dataclass(frozen=True)
class _Unsent:
    detail: str
    wait: float | None

    def __call__(self, item: WorkItem) -> PutResult:
        return PutResult(item.item_id, ok=False, detail=self.detail, retry_after=self.wait)


@dataclass(frozen=True)
class _Answer:
    """`again`: it had been delivered before."""

    ok: bool
    again: bool = False
    permanent: bool = False
    doubt: bool = False
    detail: str = ""
    wait: float | None = None

    def of(self, item: WorkItem, ref: str | None = None) -> PutResult:
        return PutResult(item.item_id, ok=self.ok, in_doubt=self.doubt, permanent=self.permanent,
                         detail=self.detail, target_ref=ref, retry_after=self.wait)


def _doubt(item: WorkItem, why: str) -> PutResult:
    return PutResult(item.item_id, ok=False, in_doubt=True, detail=why)
