"""A person moves it: a toll-free change at the RespOrg, a carrier that takes a call or a form.

    providers:
      resporg:
        kind: manual
        role: telecom                        # who may say that it is done (policy `people`)
        within: 4h
        remind: 15m
        instruction: |
          Call RespOrg ABC01 (555-0100, PIN in the safe) and have {ref} set to {shares}.
          Ask for the ticket's number.
    queues:
      loan_calls:
        route:
          provider: resporg
          ref: "800-555-0199"
          destinations: {hq: CIC 0288, acme: CIC 0222}
          begins: {hq: 100}

A shift opens a task and tells people; the lever reads as it was until one of them says

    ccfailover done resporg:800-555-0199 --evidence "ticket 4711, test call at 14:05"

Task, answer and evidence are in our own store and its journal. The step waits for the answer until
the task expires. Toll-free records name percentages by carrier, and are in force within 15 minutes
of their activation.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Final

from ccfailover.errors import UsageError
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec
from ccfailover.model.shares import TREATMENTS, Shares
from ccfailover.providers import Provider, Route
from ccfailover.providers.manual.lever import ManualRoute, Terms
from ccfailover.providers.params import DURATION, mapping, seconds, text, texts

_WITHIN: Final = 14_400.0
_REMIND: Final = 900.0
_INSTRUCTION: Final = "Set {lever} to {shares}."
_LEVER: Final[Mapping[str, object]] = {
    "destinations": {
        "type": "object", "minProperties": 2, "maxProperties": 50,
        "propertyNames": {"pattern": "^[a-z][a-z0-9_]*$"},
        "additionalProperties": {"type": "string", "minLength": 1, "maxLength": 200},
        "description": "site or treatment → what the person is to call it",
    },
    "instruction": {
        "type": "string", "minLength": 1, "maxLength": 4000,
        "description": "what the person is to do; {shares}, {before}, {ref}, {lever} and {until} "
                       "are filled in",
    },
    "role": {"type": "string", "minLength": 1, "maxLength": 60,
             "description": "the role of those who may say that it is done; left out: anybody"},
    "within": {**DURATION, "description": "when the task expires, and the step gives up "
                                          "(default 4h)"},
    "remind": {**DURATION, "description": "how often people are reminded of it (default 15m)"},
    "begins": {
        "type": "object", "minProperties": 1, "maxProperties": 50,
        "additionalProperties": {"type": "integer", "minimum": 0, "maximum": 100},
        "description": "the shares as they are before anybody has ever said how it stands",
    },
    "step": {"type": "integer", "minimum": 1, "maximum": 100,
             "description": "shares come in multiples of this many percent (default 1)"},
}


class ManualProvider(Provider):
    kind: ClassVar[str] = "manual"
    summary: ClassVar[str] = "a person moves it, and says so: routes"
    wants_desk: ClassVar[bool] = True
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "additionalProperties": False, "properties": _LEVER,
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "minLength": 1, "maxLength": 200,
                    "description": "what is moved, as the person knows it"},
            **_LEVER,
        },
    }
    EXAMPLE: ClassVar[str] = """\
sites:
  hq: {kind: in_house}
  acme: {kind: outsourced, hours: "24/7"}
people: {telecom: [joe, dana]}
providers:
  resporg:
    kind: manual
    role: telecom
    within: 4h
    instruction: |
      Call RespOrg ABC01 (555-0100, PIN in the safe) and have {ref} set to {shares}.
queues:
  loan_calls:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: message
    normal: {hq: 100}
    route:
      provider: resporg
      ref: "800-555-0199"
      destinations: {hq: CIC 0288, acme: CIC 0222, message: the closed announcement}
      begins: {hq: 100}
"""
    RIGHTS: ClassVar[str] = """\
# None on any platform. Whoever says that it is done needs the role in the policy:
people: {telecom: [joe, dana]}
"""
    TRAPS: ClassVar[tuple[str, ...]] = (
        "A rollback asks for the shares that were found; of whatever else stood there it knows "
        "nothing.",
        "It reads what a person said last, and nothing else: only a test call shows the truth.",
        "A rollback of an open task asks for the old shares, since somebody may have begun.",
        "The process that runs the failover waits; when it is killed, the answer can still be "
        "given, and `ccfailover resume` finds it.",
        "A toll-free change is in force within 15 minutes of its activation: say that it is done "
        "after the test call.",
    )

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        block = {**params, **(lever or {})}
        names = frozenset(texts(block.get("destinations"))) or None
        role = text(block.get("role"))
        step = block.get("step")
        return Capabilities(
            routes=True, share_step=step if isinstance(step, int) else 1, compare_and_set=True,
            destinations=names, treatments=names is None or bool(names & TREATMENTS),
            by_hand=seconds(block.get("within"), _WITHIN),
            rights=(f"the role {role}" if role else "none: anybody may say that it is done",),
            needs=("a person within reach, who can do it",),
        )

    def route(self, lever: LeverSpec) -> Route:
        block = {**self.spec.params, **lever.params}
        step = block.get("step")
        begins = mapping(block.get("begins"))
        try:
            first = Shares({name: part for name, part in begins.items()
                            if isinstance(part, int)}) if begins else None
        except ValueError as error:
            raise UsageError(f"`begins` cannot be: {error}", where=lever.lever) from None
        return ManualRoute(self.name, lever, self.runtime, self.desk, Terms(
            destinations=texts(block.get("destinations")),
            step=step if isinstance(step, int) else 1,
            instruction=text(block.get("instruction"), _INSTRUCTION),
            role=text(block.get("role")), within=seconds(block.get("within"), _WITHIN),
            remind=seconds(block.get("remind"), _REMIND), begins=first))
