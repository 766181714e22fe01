"""Twilio: the origination URLs of a SIP trunk by weight, or the voice URL of a number.

    providers:
      carrier:
        kind: twilio
        account: AC…
        key: "env:TWILIO_KEY"          # an API key's SID; left out: the account's own auth token
        secret: "env:TWILIO_SECRET"
    queues:
      loan_calls:
        route:
          provider: carrier
          ref: TK…                     # a trunk: any shares; or PN…, a number: all or nothing
          destinations: {hq: OU…, acme: OU…}

Shapes: twilio.com/docs/sip-trunking/api/originationurl-resource (Weight 1..65535, Priority
0..65535, the lowest first, Enabled) and the resource IncomingPhoneNumber, version 2010-04-01
(VoiceUrl, which is not used where TrunkSid or VoiceApplicationSid is set). Neither has a version:
a write is compared by reading once more just before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Provider, Resolve, Route
from ccfailover.providers.params import DURATION, REFERENCE, mapping, text, texts
from ccfailover.providers.twilio.number import NumberRoute
from ccfailover.providers.twilio.session import Session
from ccfailover.providers.twilio.trunk import TrunkRoute
from ccfailover.runtime import Runtime

_PRIORITY: Final = 10
"""Twilio's own default."""
_DESTINATIONS: Final[Mapping[str, object]] = {
    "type": "object", "minProperties": 2, "maxProperties": 20,
    "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
    "additionalProperties": {
        "type": "string", "maxLength": 2000, "pattern": "^(OU[0-9a-fA-F]{32}|https?://[^ ]+)$"},
    "description": "site or treatment → the SID of an origination URL (OU…) of the trunk, or the "
                   "voice URL of the number",
}
_URL: Final = {"type": "string", "pattern": "^https?://"}


class TwilioProvider(Provider):
    kind: ClassVar[str] = "twilio"
    summary: ClassVar[str] = "Twilio: a SIP trunk's origination URLs, a number's voice URL"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["account", "secret"], "additionalProperties": False,
        "properties": {
            "account": {"type": "string", "pattern": "^AC[0-9a-fA-F]{32}$",
                        "description": "the SID of the account that owns trunk and number"},
            "key": {**REFERENCE, "description": "a reference to an API key's SID; left out: "
                                                "`secret` is the account's auth token"},
            "secret": {**REFERENCE, "description": "a reference to the API key's secret, or to "
                                                   "the account's auth token"},
            "destinations": _DESTINATIONS,
            "priority": {
                "type": "integer", "minimum": 0, "maximum": 65_535,
                "description": "that the URLs of the destinations share (default 10); enabled "
                               "URLs of a higher number are Twilio's own fall-back",
            },
            "trunking_url": {**_URL, "description": "default https://trunking.twilio.com"},
            "api_url": {**_URL, "description": "default https://api.twilio.com"},
            "timeout": DURATION,
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "pattern": "^(TK|PN)[0-9a-fA-F]{32}$",
                    "description": "the SID of a trunk (TK…) or of a phone number (PN…)"},
            "destinations": _DESTINATIONS,
        },
    }
    EXAMPLE: ClassVar[str] = """\
sites:
  hq: {kind: in_house}
  acme: {kind: outsourced, hours: "24/7"}
providers:
  carrier:
    kind: twilio
    account: AC00000000000000000000000000000001
    key: "env:TWILIO_KEY"
    secret: "env:TWILIO_SECRET"
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: message
    normal: {hq: 100}
    route:
      provider: carrier
      ref: TK00000000000000000000000000000001
      destinations:
        hq: OU00000000000000000000000000000001
        acme: OU00000000000000000000000000000002
        message: OU00000000000000000000000000000003
"""
    RIGHTS: ClassVar[str] = """\
# A restricted API key with these permissions, or a standard API key of a subaccount that owns
# nothing but the trunks and numbers of the policy:
/trunking/trunks/origination-urls: read, list, update
/api/phone-numbers: read, update        # only where a number (PN…) is a lever
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A rollback brings back each URL's weight, priority and switch as they were found.",
        "A weight is 1 at least: a share of 0 % is a URL that is disabled, and Twilio does not "
        "fall back to it either.",
        "Each URL is written by a call of its own: receivers are switched on before others are "
        "switched off, and for a moment both take calls.",
        "An enabled URL that destinations does not name, with the same or a lower priority number, "
        "takes calls: then the shares are not known, and nothing is set.",
        "Weights are read as shares in whole percent, rounded.",
        "The voice URL of a number that belongs to a trunk or an application is not used by "
        "Twilio, and refused here.",
        "Trunks have a disaster recovery URL of their own, which Twilio calls when no origination "
        "URL answers.",
    )

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._session = Session(spec, resolve, runtime, timeout=self.call_seconds)

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        names = frozenset(_destinations(params, lever or {}))
        whole = text((lever or {}).get("ref")).startswith("PN")
        return Capabilities(
            routes=True, share_step=100 if whole else 1, destinations=names or None,
            treatments=not names or bool(names & TREATMENTS),
            rights=("read and update the phone number",) if whole else
                   ("read, list and update the trunk's origination URLs",),
            needs=("a voice URL for each destination",) if whole else
                  ("one origination URL in the trunk for each destination",),
        )

    def route(self, lever: LeverSpec) -> Route:
        names = _destinations(self.spec.params, lever.params)
        trunk = lever.ref.startswith("TK")
        if not names or any(place.startswith("OU") is not trunk for place in names.values()):
            raise UsageError(
                "destinations have to be " + ("origination URLs (OU…)" if trunk else "voice URLs"),
                where=lever.lever, hint="destinations: {hq: …, acme: …}")
        if len(set(names.values())) != len(names):
            raise UsageError("two destinations have the same place on the platform",
                             where=lever.lever,
                             hint="give every site and treatment its own in destinations")
        if not trunk:
            return NumberRoute(self._session, lever.ref, names)
        priority = self.spec.params.get("priority")
        return TrunkRoute(self._session, lever.ref, names,
                          priority if isinstance(priority, int) else _PRIORITY)

    def close(self) -> None:
        self._session.close()


def _destinations(params: Mapping[str, object], lever: Mapping[str, object]) -> dict[str, str]:
    return texts(mapping(lever.get("destinations") or params.get("destinations")))
