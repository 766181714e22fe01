"""Genesys Cloud as far as our levers go: the token, and emergency groups.

Held to the vendor's published models (genesysmodel). Beyond them: a PUT replaces the whole, needs
`name` and the current `version` (409 otherwise), and every reference an id. The token is that of
`login.{region}/oauth/token`, which no model describes.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from tests.servers.genesysmodel import Operation, problems
from tests.servers.rest import Asked, Refusal, RestServer

CLIENT = "c11e47-client"
_TOKEN = "/oauth/token"


class Token:
    """The client's login. The SDK asks for it in this way, and reads the token only; the rest of
    the reply is what RFC 6749 wants."""

    method = "POST"
    path = re.compile(_TOKEN)

    def request_problems(self, asked: Asked) -> Iterator[str]:
        try:
            form = asked.form()
        except ValueError as error:
            yield str(error)
            return
        if asked.query or form != {"grant_type": "client_credentials"}:
            yield "unsupported_grant_type"

    def reply_problems(self, told: Any) -> Iterator[str]:
        kinds = {name: type(value) for name, value in told.items()}
        if kinds != {"access_token": str, "token_type": str, "expires_in": int}:
            yield f"no token: {told!r}"


class Genesys(RestServer):
    """`life`: seconds of the tokens it gives. `tokens`: how many it has given."""

    too_many = "too.many.requests"

    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.life = 86_399
        self.tokens = 0
        self.valid: set[str] = set()
        self.groups: dict[str, dict[str, Any]] = {}
        self.writes: list[tuple[str, dict[str, Any]]] = []
        self.meanwhile: list[Callable[[], None]] = []
        """Each is done once, just before a write is looked at."""
        self.token_body: dict[str, Any] | None = None
        """Said in place of a token."""
        self.lies: dict[str, Any] = {}
        """Said of every group in place of the truth."""
        super().__init__([Token(), Operation("get_architect_emergencygroup"),
                          Operation("put_architect_emergencygroup")])

    def add(self, *, enabled: bool = False, ivrs: int = 2) -> str:
        ref = str(uuid.uuid4())
        self.groups[ref] = {
            "id": ref, "name": "loans", "description": "power is out at hq",
            "division": {"id": str(uuid.uuid4()), "name": "Home", "selfUri": "/d"},
            "version": 1, "state": "active", "enabled": enabled,
            "dateCreated": "2026-03-01T09:30:00.000Z", "createdBy": str(uuid.uuid4()),
            "emergencyCallFlows": [{
                "emergencyFlow": {"id": str(uuid.uuid4()), "name": "to acme", "selfUri": "/f"},
                "ivrs": [{"id": str(uuid.uuid4()), "name": f"ivr {n}", "selfUri": "/i"}
                         for n in range(ivrs)]}],
            "selfUri": f"/api/v2/architect/emergencygroups/{ref}",
        }
        return ref

    def set(self, ref: str, enabled: bool) -> None:
        """Somebody else saves it at the console."""
        self.groups[ref]["enabled"] = enabled
        self.groups[ref]["version"] += 1

    def admit(self, asked: Asked) -> None:
        if asked.path == _TOKEN:
            return
        scheme, _, token = str(asked.headers.get("Authorization") or "").partition(" ")
        if scheme.lower() != "bearer" or token not in self.valid:
            raise self.refused(401, "bad.credentials")

    def answer(self, asked: Asked) -> tuple[int, Any]:
        if asked.path == _TOKEN:
            return self._token(asked)
        ref = asked.path.rpartition("/")[2]
        if ref not in self.groups:
            raise self.refused(404, "not.found")
        if asked.method == "PUT":
            self._put(ref, asked.json())
        return 200, self.groups[ref]

    def _token(self, asked: Asked) -> tuple[int, Any]:
        if asked.login() != (CLIENT, self.secret):
            raise Refusal(400, {"error": "invalid_client", "description": "authentication failed",
                                "error_description": "authentication failed"})
        self.tokens += 1
        token = f"tok-5ecret-{self.tokens}"
        self.valid.add(token)
        return 200, {"access_token": token, "token_type": "bearer", "expires_in": self.life}

    def _put(self, ref: str, body: dict[str, Any]) -> None:
        while self.meanwhile:
            self.meanwhile.pop()()
        if ref not in self.groups:
            raise self.refused(404, "not.found")
        now = self.groups[ref]
        if not body.get("name") or body.get("id", ref) != ref:
            raise self.refused(400, "name.required")
        for flow in body.get("emergencyCallFlows") or ():
            if not all(each.get("id") for each in (flow.get("emergencyFlow") or {},
                                                   *(flow.get("ivrs") or ()))):
                raise self.refused(400, "bad.emergency.call.flow")
        if body.get("version") != now["version"]:
            raise self.refused(409, "general.conflict")
        kept = {name: now[name] for name in ("id", "selfUri", "dateCreated", "createdBy")}
        self.groups[ref] = {
            "description": "", "enabled": False, "emergencyCallFlows": [], "state": "active",
            "division": now["division"], **body, **kept, "version": now["version"] + 1,
            "dateModified": "2026-03-01T10:00:00.000Z"}
        self.writes.append((ref, body))

    def refused(self, status: int, why: str) -> Refusal:
        return Refusal(status, {
            "message": why, "code": why, "status": status, "messageParams": {},
            "contextId": str(uuid.uuid4()), "details": [], "errors": [],
        }, {"Retry-After": "3"} if status == 429 else None)

    def refusal_problems(self, asked: Asked, refusal: Refusal) -> Iterator[str]:
        if "error" not in refusal.body:  # the login has errors of its own
            yield from problems(refusal.body, "ErrorBody")

    def said(self, asked: Asked, told: Any) -> Any:
        if asked.path == _TOKEN:
            return told if self.token_body is None else self.token_body
        return {**told, **self.lies}
