"""What `providers list` and docs/providers.md tell of a kind: from its class, without I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ccfailover.errors import CcfError
from ccfailover.policy.blocks import levers
from ccfailover.providers import Provider
from ccfailover.wiring.kinds import provider_class

if TYPE_CHECKING:
    from ccfailover.model.capabilities import Capabilities

SORTS = {"route": "routes", "backlog": "backlogs", "gate": "consumer gates",
         "announcement": "announcements", "procedure": "procedures"}
"""What a kind overrides of `Provider`, and what that is called."""


@dataclass(frozen=True)
class Key:
    """One key of a block: `path` (`destinations`, `route.step`), whether it must be there, what may
    stand there, and what it means."""

    path: str
    required: bool
    value: str
    meaning: str


@dataclass(frozen=True)
class KindFacts:
    """`can`: what the kind's example can do, as (what, how). `provider`, `lever`: the keys."""

    kind: str
    summary: str
    drives: tuple[str, ...]
    can: tuple[tuple[str, str], ...]
    needs: tuple[str, ...]
    rights: tuple[str, ...]
    rights_text: str
    example: str
    traps: tuple[str, ...]
    provider: tuple[Key, ...]
    lever: tuple[Key, ...]

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, "summary": self.summary, "drives": list(self.drives),
                "can": dict(self.can), "needs": list(self.needs), "rights": list(self.rights),
                "rights_text": self.rights_text, "example": self.example,
                "traps": list(self.traps),
                "provider": [dict(key.__dict__) for key in self.provider],
                "lever": [dict(key.__dict__) for key in self.lever]}


def facts(kind: str) -> KindFacts:
    """Raises UsageError for a kind that there is not."""
    cls = provider_class(kind)
    able = [each for each in _abilities(cls) if each is not None]
    needs = dict.fromkeys(need for each in able for need in each.needs)
    rights = dict.fromkeys(right for each in able for right in each.rights)
    return KindFacts(
        kind=kind, summary=cls.summary,
        drives=tuple(word for sort, word in SORTS.items()
                     if getattr(cls, sort) is not getattr(Provider, sort)),
        can=tuple(dict(pair for each in able for pair in _can(each)).items()),
        needs=tuple(needs), rights=tuple(rights), rights_text=cls.RIGHTS.strip(),
        example=cls.EXAMPLE.strip(), traps=tuple(" ".join(trap.split()) for trap in cls.TRAPS),
        provider=tuple(_keys(cls.PARAMS)), lever=tuple(_keys(cls.LEVER)))


def _abilities(cls: type[Provider]) -> list[Capabilities | None]:
    """Of the kind's own levers in its example; without one, of a block without keys."""
    import yaml

    policy: Any = yaml.safe_load(cls.EXAMPLE) or {}
    blocks: Mapping[str, Mapping[str, Any]] = policy.get("providers") or {}
    found = []
    for path, lever in levers(policy):
        block = blocks.get(str(lever.get("provider")), {})
        if block.get("kind") == cls.kind:
            params = {key: value for key, value in block.items() if key != "kind"}
            own = {key: value for key, value in lever.items()
                   if key not in ("provider", "emergency")}
            found.append(_able(cls, params, {"ref": str(path[1]), **own}))
    return found or [_able(cls, {}, None)]


def _able(cls: type[Provider], params: Mapping[str, object],
          lever: Mapping[str, object] | None) -> Capabilities | None:
    try:
        return cls.capabilities(params, lever)
    except (CcfError, KeyError, TypeError, ValueError):
        return None  # a kind of somebody else's that needs more than an empty block


def _can(can: Capabilities) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    if can.routes:
        rows += [("smallest step", f"{can.share_step} %"),
                 ("treatments", "yes" if can.treatments else "no"),
                 ("compare-and-set", "a change by somebody else in between is refused"
                  if can.compare_and_set else "no: it is read again just before the write"),
                 ("callers follow", f"within {can.propagation:g} s" if can.propagation
                  else "at once"),
                 ("contacts in progress", "counted, so that `drain` can wait" if can.live
                  else "not told")]
    if can.backlogs:
        window = "for ever" if can.put_window is None else f"within {can.put_window:g} s"
        rows += [("idempotent put", window if can.idempotent_put
                  else "no: every possible duplicate is listed"),
                 ("largest item", f"{can.max_item_bytes // 1024} KiB"),
                 ("order", "within a group" if can.ordered else can.deadline_first),
                 ("one claim", f"up to {can.max_batch} items" if can.claims
                  else "none: what was put in stays")]
    return rows


def _keys(schema: Mapping[str, Any], prefix: str = "", deep: int = 2) -> list[Key]:
    required = set(schema.get("required", ()))
    found = []
    for name, node in schema.get("properties", {}).items():
        if not isinstance(node, Mapping):
            continue
        path = f"{prefix}{name}"
        found.append(Key(path, name in required, _value(node), str(
            node.get("description") or node.get("x-message") or "")))
        if deep > 1:
            found += _keys(node, f"{path}.", deep - 1)
    return found


def _value(node: Mapping[str, Any]) -> str:
    """What may stand there, in a word or two."""
    if node.get("x-secret") or str(node.get("pattern")).startswith("^(env|file|"):
        return "reference to a secret"
    if node.get("type") == ["number", "string"]:
        return "duration"
    if "enum" in node:
        return ", ".join(str(one) for one in node["enum"])
    if "const" in node:
        return str(node["const"])
    for choice in ("oneOf", "anyOf"):
        if choice in node and "type" not in node:
            return " or ".join(dict.fromkeys(_value(one) for one in node[choice]
                                             if isinstance(one, Mapping)))
    said = node.get("type", "any")
    words = {"object": "mapping", "array": "list", "string": "text", "integer": "whole number",
             "boolean": "true or false"}
    return " or ".join(words.get(one, one) for one in ([said] if isinstance(said, str) else said))
