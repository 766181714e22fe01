"""JSON Schemas (2020-12) of what a policy may say about an `http` provider and its levers."""

from __future__ import annotations

from typing import Any, Final

from ccfailover.providers.params import DURATION, REFERENCE

_POINTER: Final = {
    "type": "string", "pattern": "^(/.*)?$", "maxLength": 500,
    "description": "a JSON pointer into the reply, such as /data/shares",
}
_PATH: Final = {
    "type": "string", "pattern": "^/", "maxLength": 2000,
    "description": "appended to url; {ref} is replaced by the lever's ref",
}
_HEADERS: Final = {
    "type": "object", "maxProperties": 20,
    "propertyNames": {"pattern": "^[A-Za-z0-9!#$%&'*+.^_`|~-]+$"},
    "additionalProperties": {"type": "string", "maxLength": 2000},
    "description": "values may hold {ref} and, on writes, {key}; or be a secret's reference",
}
_METHOD: Final = {"enum": ["GET", "POST", "PUT", "PATCH"]}
_WRITE_METHOD: Final = {"enum": ["POST", "PUT", "PATCH"]}
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
_INTAKE_METHOD: Final = {"enum": ["POST", "PUT", "PATCH", "DELETE"]}
_ANSWERS: Final = {
    "type": "array", "maxItems": 50, "uniqueItems": True,
    "items": {"type": ["integer", "string"], "minimum": 100, "maximum": 599, "minLength": 1,
              "maxLength": 100},
    "description": "statuses of a reply, or words that stand for one item of a batch",
}


def _body(what: str) -> dict[str, object]:
    return {"type": "string", "maxLength": 65_536, "description": f"Jinja2: {what}"}


def _call(body: str, **more: object) -> dict[str, Any]:
    return {
        "type": "object", "required": ["path"], "additionalProperties": False,
        "properties": {"method": _INTAKE_METHOD, "path": _PATH, "headers": _HEADERS,
                       "body": _body(body), **more},
    }


_OF_CLAIMS: Final = _call(
    "seconds, assignee, ref, and handle (one request for each claim) or, with `done`, handles",
    gone={"type": "array", "items": {"type": "integer", "minimum": 400, "maximum": 499},
          "maxItems": 20, "description": "statuses that say: the claim is gone"},
    done={**_POINTER, "description": "the list of the claims that it was done for; one request is "
                                    "then made for all, and must get them in its body"})

_PUT: Final = _call(
    "of one item: id, key, submitted, hops, attributes, base64, body (text), document (the body, "
    "where it is JSON); of a batch: items, key",
    item=_body("one item of a batch, with the names of one item; `items` are they, with commas"),
    batch={"type": "integer", "minimum": 1, "maximum": 1000,
           "description": "items that go in one request; default 1"},
    at_a_time={"type": "integer", "minimum": 1, "maximum": 64,
               "description": "requests that are under way at once; default 8"},
    accepted=_ANSWERS, duplicate=_ANSWERS, refused=_ANSWERS, later=_ANSWERS,
    id={**_POINTER, "description": "where the reply acknowledges: the provider's own id of what it "
                                  "took in. A reply without one proves nothing"},
    results={
        "type": "object", "required": ["list", "status"], "additionalProperties": False,
        "properties": {
            "list": _POINTER,
            "key": {**_POINTER, "description": "where an entry repeats the item's key; without it "
                                              "the entries stand in the order of the items"},
            "status": _POINTER, "id": _POINTER,
        },
        "description": "what became of each item of a batch",
    },
    idempotent={
        "anyOf": [{"type": "boolean"}, DURATION],
        "description": "whether, or for how long, a repeated key is swallowed (by its contract); "
                       "without it every possible duplicate is listed",
    },
    max_item_bytes={"type": "integer", "minimum": 1, "maximum": 4_194_304},
)

_CLAIM: Final = _call(
    "limit, seconds, assignee, ref", list=_POINTER, message=_POINTER, handle=_POINTER,
    body_at=_POINTER,
    encoding={"enum": ["base64", "text", "json"], "description": "of the body; default base64"},
    submitted=_POINTER, created=_POINTER, hops=_POINTER, receives=_POINTER, attributes=_POINTER,
    version={**_POINTER, "description": "of the record, for `reassign`"})
_CLAIM["required"] = ["path", "list", "message", "handle", "body_at"]

_REASSIGN: Final = {
    "type": "object", "required": ["write", "read"], "additionalProperties": False,
    "properties": {
        "write": _call("assignee, source, id, key, hops, claim, version, ref",
                       if_match={"type": "boolean", "description": "send the version in If-Match"}),
        "read": {
            "type": "object", "required": ["path", "assignee"], "additionalProperties": False,
            "properties": {"path": _PATH, "headers": _HEADERS, "assignee": _POINTER,
                           "key": {**_POINTER, "description": "where the record keeps the key that "
                                                             "it was last assigned with"}},
        },
        "at_a_time": {"type": "integer", "minimum": 1, "maximum": 64},
    },
    "description": "a record is assigned anew where it is, by compare-and-set; paths may hold "
                   "{message}, the record's id there",
}

_BACKLOG: Final[dict[str, object]] = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "put": _PUT,
        "measure": {
            "type": "object", "required": ["path", "visible"], "additionalProperties": False,
            "properties": {
                "path": _PATH, "headers": _HEADERS, "visible": _POINTER, "hidden": _POINTER,
                "oldest": {**_POINTER, "description": "age in seconds, or the time of the oldest"},
            },
        },
        "claim": _CLAIM, "extend": _OF_CLAIMS, "release": _OF_CLAIMS, "settle": _OF_CLAIMS,
        "reassign": _REASSIGN,
    },
    "dependentRequired": {"claim": ["extend"], "extend": ["claim"], "settle": ["claim"],
                          "release": ["claim"]},
    "description": "a provider's intake: put and measure; claim, extend and settle where it gives "
                   "back what it has not begun; or reassign",
}

LEVER: Final[dict[str, object]] = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "ref": {"type": "string", "minLength": 1, "maxLength": 500},
        "destinations": _DESTINATIONS, "route": _ROUTE, "gate": _GATE, "backlog": _BACKLOG,
        "assignee": {
            "type": "string", "minLength": 1, "maxLength": 200,
            "description": "the backlog is what is assigned so in a system of record; a move "
                           "between two assignees assigns the record anew (`reassign`)",
        },
        "claim_seconds": {
            **DURATION, "description": "how long a claimed item stays hidden from the site's own",
        },
        "max_receives": {
            "type": "integer", "minimum": 1,
            "description": "claims after which the platform puts an item aside",
        },
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
        "destinations": _DESTINATIONS, "route": _ROUTE, "gate": _GATE, "backlog": _BACKLOG,
    },
}
