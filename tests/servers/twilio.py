"""Twilio as far as our levers go: origination URLs of a trunk, and phone numbers.

Held to the vendor's own SDK (twiliomodel): fields by their exact names and types, in the form and
in the reply. Beyond it: ranges and schemes from twilio.com/docs, lists in pages, and what Twilio
ignores is refused, since a field that is ignored is a mistake of ours.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from tests.servers.rest import Asked, Refusal, RestServer
from tests.servers.twiliomodel import Operation, Resource, error_problems

ACCOUNT = "AC" + "0" * 31 + "1"
KEY = "SK" + "0" * 31 + "7"
_CODES = {400: 20001, 401: 20003, 404: 20404, 405: 20004, 429: 20429}


@cache
def _operations() -> list[Operation]:
    url = Resource("trunking.v1.trunk.origination_url", "OriginationUrl", "v1",
                   "trunk_sid", "sid")
    number = Resource("api.v2010.account.incoming_phone_number", "IncomingPhoneNumber",
                      "2010-04-01", "account_sid", "sid")
    return [url.list(), url.fetch(), url.update(), number.fetch(), number.update()]


@dataclass
class OriginationUrl:
    sid: str
    sip_url: str = "sip:gw.example"
    weight: int = 10
    priority: int = 10
    enabled: bool = True
    friendly_name: str = ""


@dataclass
class Number:
    sid: str
    phone_number: str = "+18005550100"
    voice_url: str = ""
    trunk_sid: str | None = None
    voice_application_sid: str | None = None


@dataclass
class Trunk:
    urls: dict[str, OriginationUrl] = field(default_factory=dict)


class Twilio(RestServer):
    def __init__(self, secret: str) -> None:
        self.secret = secret
        self.trunks: dict[str, Trunk] = {}
        self.numbers: dict[str, Number] = {}
        self.writes: list[tuple[str, dict[str, str]]] = []
        self.page = 50
        self.pages_at: str | None = None
        """Where the next page is said to be, if not here."""
        super().__init__(_operations())

    def admit(self, asked: Asked) -> None:
        if asked.login() not in ((KEY, self.secret), (ACCOUNT, self.secret)):
            raise self.refused(401, "Authenticate")

    def answer(self, asked: Asked) -> tuple[int, Any]:
        _, version, _, owner, _, *rest = asked.path.split("/")
        sid = rest[0].removesuffix(".json") if rest else None
        if version == "v1":
            trunk = self.trunks.get(owner)
            if trunk is None or (sid and sid not in trunk.urls):
                raise self.refused(404, "The requested resource was not found")
            return 200, self._trunk(asked, owner, trunk, sid)
        if owner != ACCOUNT or sid not in self.numbers:
            raise self.refused(404, "The requested resource was not found")
        return 200, self._number(asked, self.numbers[sid])

    def refused(self, status: int, why: str, code: int | None = None) -> Refusal:
        code = code or _CODES[status]
        return Refusal(status, {"code": code, "message": why, "status": status,
                                "more_info": f"https://www.twilio.com/docs/errors/{code}"})

    def refusal_problems(self, asked: Asked, refusal: Refusal) -> Iterator[str]:
        return error_problems(refusal.status, refusal.body)

    # --- trunks --------------------------------------------------------------------------------

    def _trunk(self, asked: Asked, ref: str, trunk: Trunk, sid: str | None) -> Any:
        if sid is None:
            return self._list(asked, ref, list(trunk.urls.values()))
        url = trunk.urls[sid]
        if asked.method == "POST":
            form = asked.form()
            weight = self._within(form, "Weight", 1, url.weight)
            priority = self._within(form, "Priority", 0, url.priority)
            sip_url = form.get("SipUrl", url.sip_url)
            if not re.fullmatch(r"sip:[^ ]+", sip_url):
                raise self.refused(400, "SipUrl must be a sip: URL", 21401)
            url.weight, url.priority, url.sip_url = weight, priority, sip_url
            url.enabled = form.get("Enabled", "true" if url.enabled else "false") == "true"
            url.friendly_name = form.get("FriendlyName", url.friendly_name)
            self.writes.append((sid, form))
        return _url_json(url, ref)

    def _list(self, asked: Asked, ref: str, urls: list[OriginationUrl]) -> Any:
        size = min(self.page, int(asked.query.get("PageSize", "50")))
        page = int(asked.query.get("Page", "0"))
        if not 1 <= size <= 1000:
            raise self.refused(400, "Page size must be between 1 and 1000", 20006)
        base = f"http://{self.pages_at or asked.host}{asked.path}"
        shown = urls[page * size:(page + 1) * size]
        more = len(urls) > (page + 1) * size
        return {
            "origination_urls": [_url_json(url, ref) for url in shown],
            "meta": {
                "page": page, "page_size": size, "key": "origination_urls",
                "url": f"{base}?PageSize={size}&Page={page}",
                "first_page_url": f"{base}?PageSize={size}&Page=0", "previous_page_url": None,
                "next_page_url": f"{base}?PageSize={size}&Page={page + 1}" if more else None,
            },
        }

    def _within(self, form: dict[str, str], name: str, least: int, now: int) -> int:
        number = int(form.get(name, now))
        if not least <= number <= 65_535:
            raise self.refused(400, f"{name} must be between {least} and 65535")
        return number

    # --- numbers -------------------------------------------------------------------------------

    def _number(self, asked: Asked, number: Number) -> Any:
        if asked.method == "POST":
            form = asked.form()
            if set(form) - {"VoiceUrl"}:
                raise self.refused(400, "this small server changes the voice URL only")
            url = form.get("VoiceUrl", number.voice_url)
            if url and not re.fullmatch(r"https?://[^/ ]+(/[^ ]*)?", url):
                raise self.refused(400, "VoiceUrl is not valid", 21402)
            number.voice_url = url
            self.writes.append((number.sid, form))
        assert re.fullmatch(r"\+[1-9][0-9]{1,14}", number.phone_number)  # E.164
        return {
            "sid": number.sid, "account_sid": ACCOUNT, "phone_number": number.phone_number,
            "friendly_name": "loans", "voice_url": number.voice_url, "voice_method": "POST",
            "voice_fallback_url": None, "voice_fallback_method": "POST",
            "voice_application_sid": number.voice_application_sid,
            "voice_caller_id_lookup": False, "voice_receive_mode": "voice",
            "trunk_sid": number.trunk_sid, "status": "in-use", "api_version": "2010-04-01",
            "capabilities": {"voice": True, "sms": False, "mms": False, "fax": False},
            "sms_url": "", "sms_method": "POST", "sms_fallback_url": "",
            "sms_fallback_method": "POST", "sms_application_sid": "",
            "status_callback": "", "status_callback_method": "POST",
            "address_sid": None, "address_requirements": "none", "identity_sid": None,
            "bundle_sid": None, "beta": False, "origin": "twilio", "type": None,
            "emergency_status": "Inactive", "emergency_address_sid": None,
            "emergency_address_status": "unregistered",
            "date_created": "Sun, 01 Mar 2026 09:30:00 +0000",
            "date_updated": "Sun, 01 Mar 2026 09:30:00 +0000",
            "uri": asked.path,
        }


def _url_json(url: OriginationUrl, trunk: str) -> dict[str, Any]:
    return {
        "account_sid": ACCOUNT, "sid": url.sid, "trunk_sid": trunk, "weight": url.weight,
        "enabled": url.enabled, "sip_url": url.sip_url, "friendly_name": url.friendly_name,
        "priority": url.priority, "date_created": "2026-03-01T09:30:00Z",
        "date_updated": "2026-03-01T09:30:00Z",
        "url": f"https://trunking.twilio.com/v1/Trunks/{trunk}/OriginationUrls/{url.sid}",
    }
