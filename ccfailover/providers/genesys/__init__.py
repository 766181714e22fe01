"""Genesys Cloud: emergency groups, as a lever of all or nothing and as announcements.

    providers:
      cloud:
        kind: genesys
        region: usw2.pure.cloud
        client: "env:GENESYS_CLIENT"
        secret: "env:GENESYS_SECRET"
    queues:
      loan_calls:
        route:
          provider: cloud
          ref: 0f0e…                       # the group's id
          destinations: {hq: normal, acme: emergency}
        announcement:
          provider: cloud
          ref: loan_calls
          announcements: {outage: 77c1…}   # each a group of its own

While a group is enabled, its call routes (IVRs) go into its emergency flow, before any schedule is
looked at. What that flow does is for Genesys to know: transfer to a provider's number, or say a
message.

Shapes: the platform API's published models of `/api/v2/architect/emergencygroups/{id}` (GET, and
PUT of the whole body with `version`; 409 when that is not the current one) and of
`https://login.{region}/oauth/token` (client credentials).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Announcement, Provider, Resolve, Route
from ccfailover.providers.genesys.groups import EmergencyAnnouncement, EmergencyRoute
from ccfailover.providers.genesys.session import Session
from ccfailover.providers.params import DURATION, REFERENCE, mapping, texts
from ccfailover.runtime import Runtime

_STATES: Final = ("normal", "emergency")
_ID: Final = "[0-9a-fA-F-]{36}"
_DESTINATIONS: Final[Mapping[str, object]] = {
    "type": "object", "minProperties": 2, "maxProperties": 2,
    "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
    "additionalProperties": {"enum": list(_STATES)},
    "description": "who answers while the group is off (normal), and who while it is on "
                   "(emergency)",
}
_URL: Final = {"type": "string", "pattern": "^https?://"}


class GenesysProvider(Provider):
    kind: ClassVar[str] = "genesys"
    summary: ClassVar[str] = "Genesys Cloud emergency groups: routes of 0 or 100 %, announcements"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["client", "secret"], "additionalProperties": False,
        "anyOf": [{"required": ["region"]}, {"required": ["api_url", "login_url"]}],
        "properties": {
            "region": {"type": "string", "pattern": r"^[a-z0-9.-]+\.[a-z]+$",
                       "description": "the organisation's domain: mypurecloud.com, "
                                      "usw2.pure.cloud …"},
            "client": {**REFERENCE, "description": "a reference to the OAuth client's id"},
            "secret": {**REFERENCE, "description": "a reference to the OAuth client's secret"},
            "api_url": {**_URL, "description": "default https://api.{region}"},
            "login_url": {**_URL, "description": "default https://login.{region}"},
            "timeout": DURATION,
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "minLength": 1, "maxLength": 200,
                    "description": "of a route: the emergency group's id; of announcements: any "
                                   "name"},
            "destinations": _DESTINATIONS,
            "announcements": {
                "type": "object", "minProperties": 1, "maxProperties": 20,
                "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
                "additionalProperties": {"type": "string", "pattern": f"^{_ID}$"},
                "description": "announcement → the id of the emergency group that makes it",
            },
        },
    }
    EXAMPLE: ClassVar[str] = """\
sites:
  hq: {kind: in_house}
  acme: {kind: outsourced, hours: "24/7"}
providers:
  cloud:
    kind: genesys
    region: usw2.pure.cloud
    client: "env:GENESYS_CLIENT"
    secret: "env:GENESYS_SECRET"
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: hold
    normal: {hq: 100}
    route:
      provider: cloud
      ref: 0f0e0d0c-0000-4000-8000-000000000001
      destinations: {hq: normal, acme: emergency}
"""
    RIGHTS: ClassVar[str] = """\
# An OAuth client of the grant type Client Credentials, with a role of its own that has
routing:emergencyGroup:view
routing:emergencyGroup:edit
# in the division of the emergency groups, and nothing else.
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "Every write raises the group's version and its date, a rollback's too; all else is again "
        "as it was found.",
        "A group changes where calls go only for the call routes (IVRs) that it lists: an empty "
        "one is refused.",
        "It is all or nothing; parts of the calls cannot be sent anywhere by it.",
        "The body is replaced as a whole: what was read is sent back, with `enabled` changed.",
        "Calls that are in a flow already stay there.",
        "Every answer of 429 says when to come back; requests are counted for each OAuth client.",
    )

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._session = Session(spec, resolve, runtime, timeout=self.call_seconds)

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        block = lever or {}
        says = bool(mapping(block.get("announcements")))
        names = frozenset(texts(block.get("destinations")))
        return Capabilities(
            routes=lever is None or bool(names), announcements=lever is None or says,
            share_step=100, compare_and_set=True, destinations=names or None,
            treatments=not names or bool(names & TREATMENTS),
            rights=("routing:emergencyGroup:view", "routing:emergencyGroup:edit"),
            needs=("an emergency group that lists the call routes, with the flow that is to take "
                   "their calls",),
        )

    def route(self, lever: LeverSpec) -> Route:
        places = texts(lever.params.get("destinations"))
        if sorted(places.values()) != sorted(_STATES):
            raise UsageError("a route needs destinations: one is normal, the other emergency",
                             where=lever.lever, hint="destinations: {hq: normal, acme: emergency}")
        return EmergencyRoute(self._session, lever.ref,
                              {site: state == "emergency" for site, state in places.items()})

    def announcement(self, lever: LeverSpec) -> Announcement:
        groups = texts(lever.params.get("announcements"))
        if not groups:
            raise UsageError("no announcements are named", where=lever.lever,
                             hint="announcements: {outage: ID}")
        return EmergencyAnnouncement(self._session, lever.ref, groups)

    def close(self) -> None:
        self._session.close()
