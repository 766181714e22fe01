"""What a policy may say about a `kamailio` provider, and what docs/providers.md says of it."""

from __future__ import annotations

from typing import Final

from ccfailover.providers.params import DURATION, REFERENCE

_NAME: Final = "^[A-Za-z0-9_.-]{1,64}$"

PARAMS: Final[dict[str, object]] = {
    "type": "object", "required": ["destinations"], "additionalProperties": False,
    "oneOf": [{"required": ["url"]}, {"required": ["socket"]}],
    "dependentRequired": {"token": ["url"], "tls": ["url"]},
    "properties": {
        "url": {
            "type": "string", "maxLength": 2000,
            "pattern": "^(https?://[^@?#]+$|(env|file|aws-secretsmanager):.)",
            "description": "where the edge takes JSON-RPC over HTTP, such as "
                           "http://127.0.0.1:8060/RPC, or a reference to it when it holds a "
                           "secret",
        },
        "socket": {
            "type": "string", "pattern": "^/", "maxLength": 107,
            "description": "instead of url: the path of its unix datagram socket (modparam "
                           "dgram_socket)",
        },
        "token": {**REFERENCE, "description": "a reference to a token, sent as Authorization: "
                                              "Bearer, for a proxy before the edge"},
        "tls": {
            "type": "object", "additionalProperties": False,
            "properties": {
                "ca": {"type": "string", "description": "path of a PEM file with the CAs to trust"},
                "verify": {"type": "boolean", "description": "false: any certificate will do"},
            },
        },
        "timeout": DURATION,
        "way": {
            "enum": ["split", "weights"],
            "description": "split (default): shares in one value of a hash table, over several "
                           "dispatcher sets; weights: relative weights of one set, in the "
                           "dispatcher's list file, which is then reloaded",
        },
        "destinations": {
            "type": "object", "minProperties": 1,
            "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
            "description": "site or treatment → number of its dispatcher set (split), or its URI "
                           "as the list file has it (weights)",
        },
        "table": {
            "type": "string", "pattern": _NAME,
            "description": "split: the hash table with the shares, its key is the lever's ref "
                           "(default: split)",
        },
        "list": {
            "type": "string", "pattern": "^/", "maxLength": 1000,
            "description": "weights: the dispatcher's list file, on this machine",
        },
        "counters": {
            "type": "string", "pattern": _NAME,
            "description": "the hash table that counts answered calls, under `ref:site`",
        },
        "profile": {
            "type": "string", "pattern": _NAME,
            "description": "the dialog profile that holds the calls in progress, as "
                           "`ref:site`",
        },
        "labels": {
            "type": "object", "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
            "additionalProperties": {"type": "string", "pattern": _NAME},
            "description": "site → the name by which the edge counts it, where it is another",
        },
    },
    "if": {"properties": {"way": {"const": "weights"}}, "required": ["way"]},
    "then": {
        "required": ["list"],
        "properties": {
            "destinations": {"additionalProperties": {
                "type": "string", "pattern": r"^sips?:[^\s#;]+(;[^\s#]+)?$", "maxLength": 300}},
            "table": False,
        },
    },
    "else": {
        "properties": {
            "destinations": {"additionalProperties": {
                "type": "integer", "minimum": 0, "maximum": 999_999_999}},
            "list": False,
        },
    },
}
LEVER: Final[dict[str, object]] = {
    "type": "object", "additionalProperties": False,
    "properties": {
        "ref": {
            "type": "string", "minLength": 1, "maxLength": 100,
            "description": "split: the key in the hash table (default: the queue's name); "
                           "weights: the number of the dispatcher set",
        },
        "counted": {
            "type": "string", "pattern": _NAME,
            "description": "the edge counts this route's calls as `counted:site` (default: the "
                           "ref)",
        },
    },
}
NEEDS: Final = {
    "split": (
        "a configuration that draws the site by the shares in a hash table, such as "
        "examples/kamailio/kamailio.cfg",
        "one dispatcher set for each site and treatment, probed by OPTIONS",
    ),
    "weights": (
        "calls that go by relative weight (ds_select_dst with algorithm 11)",
        "the dispatcher's list file on the machine on which ccfailover runs",
    ),
}
RIGHTS: Final = """\
# JSON-RPC over HTTP, for this machine only (kamailio.cfg) …
listen=tcp:127.0.0.1:8060
event_route[xhttp:request] {
    if ($hu =~ "^/RPC$") jsonrpc_dispatch();
}
# … or a datagram socket; its group may call.
modparam("jsonrpcs", "transport", 4)
modparam("jsonrpcs", "dgram_socket", "/run/kamailio/jsonrpc.sock")
modparam("jsonrpcs", "dgram_mode", 0660)
# Called: core.uptime, htable.get, htable.sets, htable.dump, dlg.profile_get_size;
# with `way: weights` core.uptime, dispatcher.list, dispatcher.reload, and the list file's folder
# has to be writable.
"""
TRAPS: Final = (
    "A rollback brings back the table's value, or the lines of the list, as they were found, but "
    "for `v=`, which names the write that made a value.",
    "A hash table lives in memory: after a restart of the edge the shares are those of "
    "event_route[htable:mod-init]. Keep `normal` there. What was set before has to be set again: "
    "by `ccfailover reassert`, or by itself where the route says `reassert: true`.",
    "Whoever writes shares by hand should give another `v=`: the same text is the same value, and "
    "a change away and back to it cannot be seen.",
    "There is no compare-and-set: the shares are read again just before the write, and a change "
    "within that millisecond is found only by reading back.",
    "The shares are drawn anew for each call: 50 % of 100 calls may well be 45.",
    "Calls that a dead site never ended stay in the dialog profile until the dialog's time-out.",
    "A reply that fits into no datagram is never sent: with more than some 500 destinations "
    "`way: weights` needs HTTP.",
    "`way: weights`: a reload forgets which destinations are down. The ones that are down or "
    "disabled are marked so in the list while it is loaded. The marks are taken off again, unless "
    "ccfailover is killed in between.",
    "`way: weights`: whoever has 0 % is disabled and not probed; given a share, it is taken for "
    "alive until two probes have failed.",
    "`way: weights`: `dispatcher.reload` of an empty list says Ok and leaves nothing; the list is "
    "read back after each reload.",
    "`way: weights`: Kamailio refuses a second reload within five seconds, unless reload_delta is "
    "0.",
)
EXAMPLE: Final = """\
sites:
  hq:
    kind: in_house
    staff: {loan_calls: {agents: 40, handle_time: 5m}}
  acme:
    kind: outsourced
    staff: {loan_calls: {agents: 60, handle_time: 6m}}
providers:
  edge:
    kind: kamailio
    url: "http://127.0.0.1:8060/RPC"
    destinations: {hq: 10, acme: 20, message: 30}
    counters: cnt
    profile: route
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: message
    normal: {hq: 100}
    route: {provider: edge}
"""
