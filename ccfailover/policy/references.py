"""Names that must lead somewhere, and numbers that must fit together.

Works on plain data of any shape, so that a dangling name is reported in the same go as a typing
error elsewhere. What has the wrong shape is `shape`'s to report and is passed over here.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from typing import Any

from ccfailover.errors import Problem
from ccfailover.model.shares import TREATMENTS
from ccfailover.policy.build import QUEUE_RUNBOOKS, fields_of, subject_of
from ccfailover.policy.places import Path
from ccfailover.policy.read import Document
from ccfailover.policy.units import duration, share
from ccfailover.policy.values import CREDENTIALS, did_you_mean, shown

RUNBOOKS = ("full_failover", "overflow", "switchover", "failback")
"""Those that come with the program."""
RESERVED = TREATMENTS | {"hold"}


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def texts(value: object) -> list[tuple[int, str]]:
    """The texts of a list, with their positions in it."""
    rows = value if isinstance(value, list) else []
    return [(index, row) for index, row in enumerate(rows) if isinstance(row, str)]


def check(document: Document) -> list[Problem]:
    """Dangling and clashing names, shares that do not sum up, passwords in URLs."""
    return _References(document).check()


class _References:
    def __init__(self, document: Document) -> None:
        self._document = document
        data = document.data
        self._data = data
        self._sites = mapping(data.get("sites"))
        self._dependencies = mapping(data.get("dependencies"))
        self._queues = mapping(data.get("queues"))
        self._providers = mapping(data.get("providers"))
        self.problems: list[Problem] = []

    def say(self, path: Path, message: str, *, key: bool = False) -> None:
        places = self._document.places
        mark = places.key(path) if key else places.value(path)
        self.problems.append(Problem(self._document.file, *mark, message))

    def known(self, noun: str, name: object, known: Collection[str], path: Path, *,
              key: bool = False) -> bool:
        """Whether `name` is one of `known`; when not, says so."""
        if not isinstance(name, str) or name in known:
            return isinstance(name, str)
        listed = did_you_mean(name, known) or (
            f"; there is {', '.join(list(known)[:8])}" if known else f"; no {noun} is declared")
        self.say(path, f"there is no {noun} {shown(name)}{listed}", key=key)
        return False

    def check(self) -> list[Problem]:
        for name, site in self._sites.items():
            self._site(name, mapping(site))
        for name, queue in self._queues.items():
            self._queue(name, mapping(queue))
        for name, trigger in mapping(self._data.get("triggers")).items():
            self._trigger(name, mapping(trigger))
        for name, runbook in mapping(self._data.get("runbooks")).items():
            self._approvals(name, mapping(runbook))
            self._procedures(name, mapping(runbook))
        for name, block in mapping(self._data.get("procedures")).items():
            self._lever(mapping(block), ("procedures", name))
        self._reminders()
        self._notify()
        self._credentials(self._data, ())
        return self.problems

    def _site(self, name: str, site: Mapping[str, Any]) -> None:
        at: Path = ("sites", name)
        if name in RESERVED:
            self.say(at, f"`{name}` is a treatment; a site cannot be called so", key=True)
        if name in self._queues:
            self.say(at, f"a site and a queue are both called `{name}`", key=True)
        for index, dependency in texts(site.get("depends_on")):
            self.known("dependency", dependency, self._dependencies, (*at, "depends_on", index))
        for queue in mapping(site.get("staff")):
            self.known("queue", queue, self._queues, (*at, "staff", queue), key=True)
        last = -1.0
        ramp = site.get("ramp")
        for index, step in enumerate(ramp if isinstance(ramp, list) else ()):
            try:
                after = duration(mapping(step).get("after"))
            except ValueError:
                return
            if after <= last:
                self.say((*at, "ramp", index, "after"),
                         "the times of a ramp must rise from entry to entry")
            last = after

    def _queue(self, name: str, queue: Mapping[str, Any]) -> None:
        at: Path = ("queues", name)
        home = queue["home"] if isinstance(queue.get("home"), str) else None
        self.known("site", home, self._sites, (*at, "home"))
        backups = texts(queue.get("backups"))
        for index, site in backups:
            path = (*at, "backups", index)
            if self.known("site", site, self._sites, path) and site == home:
                self.say(path, f"{home} is the home of {name}; it cannot be its own backup")
        places = {home, *(site for _, site in backups)}
        self._normal(name, queue, places)
        for use in ("route", "intake"):
            block = mapping(queue.get(use))
            if "levers" in block:
                self._several(name, block, (*at, use), places)
            else:
                self._lever(block, (*at, use))
        self._lever(mapping(queue.get("announcement")), (*at, "announcement"))
        for use in ("backlog", "consumers"):
            for site, lever in mapping(queue.get(use)).items():
                path = (*at, use, site)
                if self.known("site", site, self._sites, path, key=True) and site not in places:
                    self.say(path, f"{site} is neither home nor a backup of {name}", key=True)
                self._lever(mapping(lever), path)
        rows = queue.get("probes")
        for index, probe in enumerate(rows if isinstance(rows, list) else ()):
            self.known("site", mapping(probe).get("site"), self._sites,
                       (*at, "probes", index, "site"))
        self._item(name, queue)
        self._increments(mapping(queue.get("shift")).get("increments"),
                         (*at, "shift", "increments"))

    def _lever(self, lever: Mapping[str, Any], path: Path) -> None:
        self.known("provider", lever.get("provider"), self._providers, (*path, "provider"))

    def _several(self, name: str, block: Mapping[str, Any], path: Path,
                 places: Collection[object]) -> None:
        rows = block.get("levers")
        seen: dict[tuple[object, object], int] = {}
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            lever = mapping(row)
            self._lever(lever, (*path, "levers", index))
            one = (lever.get("provider"), lever.get("ref", name))
            if isinstance(one[0], str) and isinstance(one[1], str) \
                    and seen.setdefault(one, index) != index:
                self.say((*path, "levers", index), f"{one[0]}:{one[1]} stands here twice")
        named = [provider for provider, _ in seen if isinstance(provider, str)]
        split, through = block.get("split"), block.get("through")
        if split is not None and self.known("lever", split, named, (*path, "split")) \
                and named.count(str(split)) > 1:
            self.say((*path, "split"), f"two of these levers are of {split}: give the one that "
                     "splits a provider of its own")
        if through is not None:
            self.known("site", through, self._sites, (*path, "through"))
        self._shares(name, block.get("rest"), (*path, "rest"), places, "shares at rest")
        for key, of in (("rest", "replace"), ("split", "multiply"), ("through", "multiply")):
            if key in block and block.get("combine") in {"replace", "multiply"} - {of}:
                self.say((*path, key), f"`{key}` is for levers that {of}", key=True)

    def _normal(self, name: str, queue: Mapping[str, Any], places: Collection[object]) -> None:
        self._shares(name, queue.get("normal"), ("queues", name, "normal"), places,
                     "normal shares")

    def _shares(self, name: str, said: object, at: Path, places: Collection[object],
                what: str) -> None:
        normal = mapping(said)
        total = 0
        for to, part in normal.items():
            if to in TREATMENTS:
                pass
            elif self.known("site or treatment", to, [*self._sites, *sorted(TREATMENTS)],
                            (*at, to), key=True) and to not in places:
                self.say((*at, to), f"{to} is neither home nor a backup of {name}", key=True)
            try:
                total += share(part)
            except ValueError:
                return
        if normal and total != 100:
            self.say(at, f"the {what} of {name} sum to {total}, not to 100", key=True)

    def _item(self, name: str, queue: Mapping[str, Any]) -> None:
        item = mapping(queue.get("item"))
        fields = fields_of(queue.get("fields"))
        asked = queue.get("licence_field")
        at: Path = ("queues", name)
        if isinstance(asked, str) and asked not in item and asked not in fields:
            known = [*item, *fields]
            self.say((*at, "licence_field"), f"{shown(asked)} is not a field of the item"
                     f"{did_you_mean(asked, known) or '; name it in `item` or `fields`'}")
        if len(mapping(queue.get("backlog"))) > 1 and "id" not in item:
            self.say((*at, "item") if item else at, f"the items of {name} can be moved, so `item` "
                     "must say which field is their `id`", key=True)

    def _increments(self, rows: object, path: Path) -> None:
        if not isinstance(rows, list) or not all(isinstance(row, int) for row in rows) or not rows:
            return
        for index, (one, two) in enumerate(pairwise(rows)):
            if two <= one:
                self.say((*path, index + 1), f"increments must rise: {two} comes after {one}")
        if rows[-1] != 100:
            self.say((*path, len(rows) - 1), f"the last increment must be 100, is {rows[-1]}")

    def _trigger(self, name: str, trigger: Mapping[str, Any]) -> None:
        at: Path = ("triggers", name)
        runbooks = [*RUNBOOKS, *mapping(self._data.get("runbooks"))]
        runs = trigger.get("run")
        known = self.known("runbook", runs, runbooks, (*at, "run"))
        for noun, names in (("site", self._sites), ("queue", self._queues)):
            if noun in trigger:
                self.known(noun, trigger[noun], names, (*at, noun))
        if "site" in trigger and "queue" in trigger:
            self.say((*at, "queue"), "a trigger acts on a site or on a queue, not on both",
                     key=True)
        if not known or not isinstance(trigger.get("when"), str):
            return
        noun = "queue" if runs in QUEUE_RUNBOOKS else "site"
        subject = subject_of(trigger, {"queues": {
            queue: mapping(block) for queue, block in self._queues.items()}})
        if subject is None:
            self.say(at, f"nothing says which {noun} {name} acts on: add `{noun}:`", key=True)
        elif runs in QUEUE_RUNBOOKS and subject in self._sites:
            self.say((*at, "site"), f"{runs} acts on a queue, {subject} is a site", key=True)
        elif runs in RUNBOOKS and runs not in QUEUE_RUNBOOKS and "queue" in trigger \
                and subject in self._queues:
            self.say((*at, "queue"), f"{runs} acts on a site, {subject} is a queue", key=True)

    def _procedures(self, name: str, runbook: Mapping[str, Any]) -> None:
        known = mapping(self._data.get("procedures"))
        for part in ("before", "branch", "after"):
            rows = runbook.get(part)
            for index, row in enumerate(rows if isinstance(rows, list) else ()):
                asked = mapping(mapping(row).get("procedure")).get("name")
                if asked is not None:
                    self.known("procedure", asked, known, ("runbooks", name, part, index,
                                                           "procedure", "name"))

    def _approvals(self, name: str, runbook: Mapping[str, Any]) -> None:
        """An approval that nobody could ever give would hold up the run that asks for it."""
        roles = mapping(self._data.get("people"))
        for part in ("before", "branch", "after"):
            rows = runbook.get(part)
            for index, row in enumerate(rows if isinstance(rows, list) else ()):
                asked = mapping(row).get("approve")
                at: Path = ("runbooks", name, part, index, "approve")
                role, wanted = mapping(asked).get("role"), mapping(asked).get("people", 1)
                if role is not None and not self.known("role", role, roles, (*at, "role")):
                    continue
                logins = {login.strip().casefold() for held in
                          ([roles[role]] if role else roles.values()) for _, login in texts(held)}
                if roles and isinstance(wanted, int) and len(logins) < wanted:
                    of = f"role {role} has" if role else "all roles together have"
                    self.say((*at, "people") if "people" in mapping(asked) else at,
                             f"{wanted} people are to approve, and {of} {len(logins)}")

    def _reminders(self) -> None:
        rows = mapping(self._data.get("remind")).get("after")
        last = 0.0
        for index, row in enumerate(rows if isinstance(rows, list) else ()):
            try:
                after = duration(row)
            except ValueError:
                return
            if after <= last:
                self.say(("remind", "after", index), "the times of reminders must rise")
            last = after

    def _notify(self) -> None:
        rows = self._data.get("notify")
        seen: set[str] = set()
        for index, block in enumerate(rows if isinstance(rows, list) else ()):
            name = mapping(block).get("name")
            if isinstance(name, str) and name in seen:
                self.say(("notify", index, "name"), f"two receivers are called `{name}`")
            elif isinstance(name, str):
                seen.add(name)

    def _credentials(self, value: object, path: Path) -> None:
        """A password in a URL is a secret, wherever it stands; the message does not repeat it."""
        for inner, text in _texts(value, path):
            if "@" in text and CREDENTIALS.search(text):
                self.say(inner, "this URL holds a password; put the secret elsewhere and refer "
                                "to it: env:NAME, file:/path or aws-secretsmanager:ID")


def _texts(value: object, path: Path) -> Iterator[tuple[Path, str]]:
    if isinstance(value, str):
        yield path, value
    elif isinstance(value, dict):
        for key, child in value.items():
            yield from _texts(child, (*path, key))
    elif isinstance(value, list):
        for index, child in enumerate(value):
            yield from _texts(child, (*path, index))
