"""What a `connect` provider and its levers take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ccfailover.providers.aws.connect.overrides import DAYS, NAME
from ccfailover.providers.aws.schema import ACCOUNT, REGION, names

_ID: Final = {"type": "string", "minLength": 1, "maxLength": 100}

PARAMS: Final[Mapping[str, object]] = {
    "type": "object", "required": ["region"], "additionalProperties": False,
    "properties": {
        "region": {**REGION, "description": "the Region of the instance"},
        "instance": {**_ID, "description": "the instance's id; all but traffic distribution "
                                           "needs it"},
        **ACCOUNT,
    },
}

LEVER: Final[Mapping[str, object]] = {
    "type": "object", "required": ["ref"], "additionalProperties": False,
    "properties": {
        "lever": {
            "enum": ["traffic_distribution", "contact_flow", "queue_status", "queue_hours",
                     "hours_override", "announcement"],
            "description": "what is moved: a traffic distribution group between two Regions "
                           "(default), the flow of a phone number, a queue's status or its hours, "
                           "an override of hours of operation (gates), what a number's flow "
                           "announces",
        },
        "ref": {"type": "string", "minLength": 1, "maxLength": 500,
                "description": "the group's ARN, the number's id or ARN, the queue's id, or the id "
                               "of the hours of operation"},
        "destinations": names("site or treatment → its Region (traffic_distribution, two of them) "
                              "or its flow's id (contact_flow)"),
        "sign_in": {
            "type": "boolean",
            "description": "agents sign in where the calls go, too: for the default group only",
        },
        "hours": {
            "type": "object", "required": ["open", "closed"], "additionalProperties": False,
            "properties": {"open": _ID, "closed": _ID},
            "description": "queue_hours: the ids of the hours of operation",
        },
        "name": {**_ID, "description": f"hours_override: the name of ours (default {NAME!r})"},
        "days": {"type": "integer", "minimum": 1, "maximum": 365,
                 "description": f"hours_override: how long it lasts if nobody opens again "
                                f"(default {DAYS})"},
        "announcements": names("announcement: its name → the flow that says it"),
        "normal": {**_ID, "description": "announcement: the flow when nothing is announced"},
        "watch": {
            "type": "object", "minProperties": 1,
            "additionalProperties": {
                "type": "object", "required": ["queue"], "additionalProperties": False,
                "properties": {"queue": _ID, "instance": _ID, "region": REGION},
            },
            "description": "site → the queue whose live counts tell how it fares (the instance "
                           "and Region are this provider's where it does not say)",
        },
    },
}
