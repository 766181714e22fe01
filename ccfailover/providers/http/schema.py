"""JSON Schemas (2020-12) of what a policy may say about an `http` provider and its levers."""

from __future__ import annotations

from typing import Final

from ccfailover.providers.params import DURATION, REFERENCE

_POINTER: Final = {
    "type": "string", "pattern": "^(/.*)?$", "maxLength": 500,
    "description": "a JSON pointer into the reply, such as /data/shares",
}
_PATH: Final = {
    "type": "string", "pattern": "^/", "maxLength": 2000,
    "description": "appended to url; {ref} is replaced by the lever's ref",
}
_METHOD: Final = {"enum": ["GET", "POST", "PUT", "PATCH"]}
_WRITE_METHOD: Final = {"enum": ["POST", "PUT", "PATCH"]}
_HEADERS: Final = {
    "type": "object", "maxProperties": 20,
    "propertyNames": {"pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"},
    "additionalProperties": {"type": "string", "maxLength": 2000},
    "description": "values may hold {ref} and, on writes, {key}; or be a secret's reference",
}
_BODY: Final = {
    "type": "string", "maxLength": 65_536,
    "description": "Jinja2: shares (platform names → percent), ref, key, version; "
                   "on a gate: open, ref, key",
}
_SHARES: Final = {
    "type": ["string", "object"], "pattern": "^(/.*)?$",
    "required": ["list", "name", "percent"], "additionalProperties": False,
    "properties": {
        "list": _POINTER,
        "name": {"type": "string", "minLength": 1},
        "percent": {"type": "string", "minLength": 1},
    },
    "description": "a pointer to an object name → percent, or {list, name, percent}",
}
_WRITE: Final = {
    "type": "object", "required": ["path"], "additionalProperties": False,
    "properties": {
        "method": _WRITE_METHOD, "path": _PATH, "headers": _HEADERS, "body": _BODY,
    },
}
_ROUTE: Final = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "read": {
            "type": "object", "required": ["path", "shares"], "additionalProperties": False,
            "properties": {
                "method": _METHOD, "path": _PATH, "headers": _HEADERS, "shares": _SHARES,
                "version": {
                    "type": "string", "pattern": "^(etag|/.*)$",
                    "description": "where the version is: etag, or a pointer into the reply",
                },
            },
        },
        "shift": {
            **_WRITE,
            "properties": {**_WRITE["properties"], "if_match": {  # type: ignore[dict-item]
                "type": "boolean",
                "description": "send the version in If-Match, so that a change made by somebody "
                               "else in between is refused",
            }},
        },
        "measure": {
            "type": "object", "required": ["path", "values"], "additionalProperties": False,
            "properties": {
                "path": _PATH, "headers": _HEADERS,
                "values": {"type": "object", "additionalProperties": _POINTER,
                           "minProperties": 1, "maxProperties": 200},
            },
        },
        "step": {
            "type": "integer", "minimum": 1, "maximum": 100,
            "description": "shares come in multiples of this many percent",
        },
    },
}
_GATE: Final = {
    "type": "object", "required": ["read", "set"], "additionalProperties": False,
    "properties": {
        "read": {
            "type": "object", "required": ["path", "open"], "additionalProperties": False,
            "properties": {
                "method": _METHOD, "path": _PATH, "headers": _HEADERS, "open": _POINTER,
                "equals": {"type": ["string", "number", "boolean"],
                           "description": "the value that means open; without it, true"},
            },
        },
        "set": _WRITE,
    },
}
_DESTINATIONS: Final = {
    "type": "object", "minProperties": 1, "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
    "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 500},
    "description": "site or treatment → the platform's own name",
}

LEVER: Final[dict[str, object]] = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "ref": {"type": "string", "minLength": 1, "maxLength": 500},
        "destinations": _DESTINATIONS, "route": _ROUTE, "gate": _GATE,
    },
}

PARAMS: Final[dict[str, object]] = {
    "type": "object", "required": ["url"], "additionalProperties": False,
    "properties": {
        "url": {
            "type": "string", "pattern": "^(https?://|env:|file:|aws-secretsmanager:)",
            "description": "the base URL, or a reference to it when it holds a secret",
        },
        "auth": {
            "type": "object", "minProperties": 1, "maxProperties": 1,
            "additionalProperties": False,
            "properties": {
                "bearer": REFERENCE,
                "basic": {
                    "type": "object", "required": ["user", "password"],
                    "additionalProperties": False,
                    "properties": {"user": {"type": "string"}, "password": REFERENCE},
                },
                "header": {
                    "type": "object", "required": ["name", "value"],
                    "additionalProperties": False,
                    "properties": {
                        "name": {"type": "string", "pattern": "^[A-Za-z0-9_-]+$"},
                        "value": REFERENCE,
                    },
                },
            },
        },
        "timeout": DURATION,
        "tls": {
            "type": "object", "additionalProperties": False,
            "properties": {
                "ca": {"type": "string", "description": "path of a PEM file with the CAs to trust"},
                "verify": {"type": "boolean"},
            },
        },
        "destinations": _DESTINATIONS, "route": _ROUTE, "gate": _GATE,
    },
}
