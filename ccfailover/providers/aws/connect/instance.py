"""One instance: where it is, and its calls."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from ccfailover.errors import Rejected
from ccfailover.providers.aws.account import Account, Document, Place
from ccfailover.providers.params import mapping

_PAGES: Final = 20


@dataclass(frozen=True)
class Instance:
    account: Account
    region: str
    id: str

    def call(self, operation: str, params: Document, *, where: str, writes: bool) -> Document:
        """Raises Rejected and Unavailable."""
        if not self.id:
            raise Rejected("the policy does not name the instance", where=where,
                           provider=self.account.provider, not_done="nothing was sent",
                           hint="add instance: to this provider")
        return self.account.call(Place("connect", self.region), operation,
                                 {"InstanceId": self.id, **params}, where=where, writes=writes)

    def listed(self, operation: str, member: str, params: Document, *, where: str,
               what: str) -> Iterator[Mapping[str, object]]:
        """The rows of a list of `what`, asked for page by page as they are looked at. Raises as
        `call`, and Rejected for a list that is none or does not end."""
        mark: dict[str, object] = {}
        for _ in range(_PAGES):
            reply = self.call(operation, {**params, **mark}, where=where, writes=False)
            rows = reply.get(member)
            if not isinstance(rows, list):
                raise self.nonsense(f"no list of {what}", where)
            yield from map(mapping, rows)
            following = reply.get("NextToken")
            if not isinstance(following, str) or not following:
                return
            mark = {"NextToken": following}
        raise self.nonsense(f"the list of {what} does not end", where)

    def nonsense(self, what: str, where: str) -> Rejected:
        return Rejected(f"the reply makes no sense: {what}", provider=self.account.provider,
                        where=where)

    def refused(self, what: str, where: str, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=self.account.provider, where=where,
                        not_done="nothing was changed", hint=hint)
