"""Any program as a lever: it gets one JSON object on stdin and answers with one on stdout.

    providers:
      pbx:
        kind: command
        argv: [/usr/local/libexec/pbx-lever, --site, dallas]
        env: {PBX_PASSWORD: "env:PBX_PASSWORD"}
        destinations: {hq: trunk-1, acme: trunk-7, message: closed}
    queues:
      loan_calls: {route: {provider: pbx, ref: "8005550100"}, …}

The program is asked

    {"verb": "read", "ref": "8005550100"}
        → {"shares": {"trunk-1": 100}, "version": "7"}          version: optional
    {"verb": "shift", "ref": …, "shares": {"trunk-1": 40, "trunk-7": 60, "closed": 0},
     "key": "r1/s1", "expected": null, or with `compare_and_set` {"shares": {…}, "version": "7"}}
        → nothing, or anything that is JSON
    {"verb": "measure", "ref": …}  → {"values": {"answered.hq": 41}}     with `measure: true`
    {"verb": "live", "ref": …}     → {"live": {"trunk-1": 12}}           with `live: true`

and ends with 0 when it did so, with 75 (EX_TEMPFAIL of sysexits.h) when nothing was done and
trying again may help (`{"retry_after": 5}` on stdout says when, in seconds), and with any other
code when it refuses; the first line of its stderr says why. `shift` must be absolute: the same one
twice lands in the same place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import TREATMENTS
from ccfailover.providers import Provider, Route
from ccfailover.providers.command.lever import CommandRoute, Settings
from ccfailover.providers.command.program import Program
from ccfailover.providers.params import DURATION, mapping, texts

_DESTINATIONS: Final[Mapping[str, object]] = {
    "type": "object", "minProperties": 1, "maxProperties": 50,
    "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
    "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 500},
    "description": "site or treatment → what the program calls it",
}


class CommandProvider(Provider):
    kind: ClassVar[str] = "command"
    summary: ClassVar[str] = "any program, JSON in and JSON out: routes"
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["argv"], "additionalProperties": False,
        "properties": {
            "argv": {
                "type": "array", "minItems": 1, "maxItems": 256,
                "items": {"type": "string", "maxLength": 4096, "pattern": "^[^\\u0000]*$"},
                "description": "program (absolute path, or found in PATH) and arguments; no shell",
            },
            "env": {
                "type": "object", "maxProperties": 64,
                "propertyNames": {"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
                "additionalProperties": {"type": "string", "maxLength": 4096},
                "description": "all that it sees beside PATH, LANG, LC_ALL, TZ and HOME; values "
                               "may be references to secrets: env:NAME",
            },
            "destinations": _DESTINATIONS,
            "step": {"type": "integer", "minimum": 1, "maximum": 100,
                     "description": "shares come in multiples of this many percent (default 1)"},
            "compare_and_set": {
                "type": "boolean",
                "description": "the program itself refuses a shift when `expected` is not so any "
                               "more; it gets the version back as text, also one that was a number "
                               "(default false: it is read just before)",
            },
            "measure": {"type": "boolean", "description": "it knows the verb `measure`"},
            "live": {"type": "boolean", "description": "it knows the verb `live`"},
            "timeout": {**DURATION, "description": "after which it is killed (default 10s)"},
        },
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "minLength": 1, "maxLength": 500,
                    "description": "told to the program as it is"},
            "destinations": _DESTINATIONS,
        },
    }
    EXAMPLE: ClassVar[str] = """\
sites:
  hq: {kind: in_house}
  acme: {kind: outsourced, hours: "24/7"}
providers:
  pbx:
    kind: command
    argv: [/usr/local/libexec/pbx-lever]
    env: {PBX_PASSWORD: "env:PBX_PASSWORD"}
    destinations: {hq: trunk-1, acme: trunk-7, message: closed}
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: message
    normal: {hq: 100}
    route: {provider: pbx, ref: "8005550100"}
"""
    RIGHTS: ClassVar[str] = """\
# The program runs as the user that ccfailover runs as. It and its folder belong to root, and
# nobody else may write to them:
install -o root -g root -m 0755 pbx-lever /usr/local/libexec/pbx-lever
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A rollback calls it with the shares that were found: whatever else stood there is for the "
        "program to bring back.",
        "It is started anew for every call, `read` included: one that needs seconds to start "
        "makes every check as slow.",
        "A shift that is killed because its time is up is in doubt, and is read back before it is "
        "tried again: it must be absolute.",
        "A child that makes a session of its own (a daemon) is not killed with it.",
        "What it writes to stderr is shown to people and journaled: no secrets, no borrower data.",
    )

    @property
    def call_seconds(self) -> float:
        """Of two runs where a shift reads first."""
        alone = self.spec.params.get("compare_and_set") is True
        return super().call_seconds * (1 if alone else 2)

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        settings = _settings(params, lever or {})
        names = frozenset(settings.destinations) or None
        return Capabilities(
            routes=True, share_step=settings.step, destinations=names,
            treatments=names is None or bool(names & TREATMENTS),
            compare_and_set=settings.compare_and_set, live=settings.live,
            rights=("run the program as this user",),
            needs=("the program on every machine that may act, the same everywhere",),
        )

    def route(self, lever: LeverSpec) -> Route:
        argv, env = self.spec.params.get("argv"), texts(self.spec.params.get("env"))
        words = [str(word) for word in argv] if isinstance(argv, list | tuple) else []
        program = Program(self.name, words, env, resolve=self.resolve, runtime=self.runtime,
                          timeout=super().call_seconds)
        return CommandRoute(program, lever, _settings(self.spec.params, lever.params))


def _settings(params: Mapping[str, object], lever: Mapping[str, object]) -> Settings:
    step = params.get("step")
    return Settings(
        destinations=texts(mapping(lever.get("destinations") or params.get("destinations"))),
        step=step if isinstance(step, int) else 1,
        compare_and_set=params.get("compare_and_set") is True,
        measure=params.get("measure") is True, live=params.get("live") is True,
    )
