"""The policy as the program uses it: frozen, checked, with every reference resolved to a name.

Durations are seconds (float), percentages whole numbers, money `Decimal` in the policy's
currency, instants µs. `params` hold what only one kind understands; its schema has checked them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal

from ccfailover.model.journal import LEASE_SECONDS
from ccfailover.model.shares import Shares

Params = Mapping[str, object]

DECIDE_WITHIN = 30 * 86_400.0
"""Seconds: the notice of 12 CFR 1002.9(a)(1), where the policy does not say."""


@dataclass(frozen=True)
class ProbeSpec:
    """`observer` names who looks: two probes with one observer are one witness."""

    key: str
    kind: str
    every: float
    timeout: float
    fall: int
    rise: int
    observer: str
    params: Params


@dataclass(frozen=True)
class Staff:
    """Heads and handle time of one queue at one site, or a plain `per_hour` rate."""

    agents: int | None = None
    handle_time: float | None = None
    patience: float | None = None
    per_hour: float | None = None


@dataclass(frozen=True)
class Sla:
    service_level: float | None = None
    within: float | None = None
    abandonment: float | None = None
    decision_time: float | None = None


@dataclass(frozen=True)
class Price:
    per_minute: Decimal = Decimal(0)
    per_application: Decimal = Decimal(0)
    per_activation: Decimal = Decimal(0)


@dataclass(frozen=True)
class Site:
    """`licences` maps a state code to the day the licence ends (None: open-ended)."""

    name: str
    in_house: bool
    timezone: str
    hours: str | None
    holidays: str | None
    location: str | None
    country: str | None
    depends_on: tuple[str, ...]
    probes: tuple[ProbeSpec, ...]
    staff: Mapping[str, Staff]
    ramp: tuple[tuple[float, int], ...] = ()
    price: Price = field(default_factory=Price)
    sla: Sla | None = None
    licences: Mapping[str, date | None] | None = None
    criteria_version: str | None = None
    data_classes: frozenset[str] | None = None
    contract_until: date | None = None
    due_diligence: date | None = None
    line: int = 0


@dataclass(frozen=True)
class Dependency:
    name: str
    location: str | None
    probes: tuple[ProbeSpec, ...]


@dataclass(frozen=True)
class ProviderSpec:
    name: str
    kind: str
    params: Params


@dataclass(frozen=True)
class LeverSpec:
    """A lever or backlog at a provider: `params` are the kind's (`ref`, `queue_url` …).

    `canary`: whether a canary goes into this backlog before the first item does. `reassert`: the
    lever is set again by itself to what the journal says when its platform forgot it in a restart.
    `several`: this is no lever of its own, but several that act as one.
    """

    provider: str
    ref: str
    params: Params = field(default_factory=dict)
    canary: bool = False
    reassert: bool = False
    several: Several | None = None

    @property
    def lever(self) -> str:
        """The name that plan and journal use: one lever may carry several queues."""
        if self.several is not None:
            return "+".join(part.lever for part in self.several.parts)
        return f"{self.provider}:{self.ref}"

    @property
    def parts(self) -> tuple[LeverSpec, ...]:
        """The levers that are really there, each of which a lease has to cover."""
        return self.several.parts if self.several is not None else (self,)


@dataclass(frozen=True)
class Several:
    """Several levers of one queue.

    `combine` is `replace`: the first carries, a later one where no earlier one can be reached, and
    it stands at `rest` otherwise. Or `multiply`: calls pass all of them, the first one first, and
    what it sends to `through` comes to the next; `split` is the lever's name that parts shares, for
    the others send all to one place.
    """

    combine: str
    parts: tuple[LeverSpec, ...]
    rest: Shares
    through: str
    split: str


@dataclass(frozen=True)
class Queue:
    """One line of work on one channel.

    `outsource`: never | overflow_only | allowed. `in_disaster`: allow | refuse: whether a
    failover (not an overflow) may take the work out although `outsource` says overflow_only.
    `home_down`: message | callback | voicemail | hold: where the remainder goes. `probes` watch
    the queue at one site each (`params["site"]`): `verify` counts what the receiver answered.
    `announcement` is the lever of what callers hear first, `emergency` the name there of what they
    hear in a failover. `fields` are further fields of an item that `eligible` may name, each
    `text` or `number`.
    `hold`: for how many seconds an increment is held where a receiver is not well, before it is
    taken back. `decide_within`: seconds from an application's submission to its decision.
    """

    name: str
    channel: str
    home: str
    backups: tuple[str, ...]
    outsource: str
    in_disaster: str
    priority: int
    home_down: str
    normal: Shares
    service_level: float | None = None
    within: float | None = None
    rto: float | None = None
    rpo: float | None = None
    mtd: float | None = None
    load_per_hour: float | None = None
    minutes_per_contact: float | None = None
    minimum_service: float | None = None
    route: LeverSpec | None = None
    intake: LeverSpec | None = None
    announcement: LeverSpec | None = None
    emergency: str | None = None
    backlogs: Mapping[str, LeverSpec] = field(default_factory=dict)
    consumers: Mapping[str, LeverSpec] = field(default_factory=dict)
    eligible: str | None = None
    item: Mapping[str, str] = field(default_factory=dict)
    data_class: str | None = None
    criteria_version: str | None = None
    licence_field: str | None = None
    increments: tuple[int, ...] = (100,)
    soak: float = 0.0
    hold: float = 60.0
    probes: tuple[ProbeSpec, ...] = ()
    max_item_bytes: int = 262_144
    fields: Mapping[str, str] = field(default_factory=dict)
    decide_within: float | None = DECIDE_WITHIN

    def backlog(self, site: str) -> LeverSpec | None:
        return self.backlogs.get(site)


@dataclass(frozen=True)
class Trigger:
    """`mode`: advise | approve | automatic. `subject` is the site or queue it acts on."""

    name: str
    when: str
    hold: float
    clear: str | None
    cooldown: float
    runbook: str
    mode: str
    subject: str


@dataclass(frozen=True)
class GuardLimits:
    """Soft limits; None means no limit. `blocked` are opening-hours expressions.

    `preempt_within`: seconds that an overflow is given to stop before a failover takes its levers.
    """

    max_step: int | None = None
    daily_cost: Decimal | None = None
    blocked: tuple[str, ...] = ()
    flap_block: float = 0.0
    preempt_within: float = 10.0


@dataclass(frozen=True)
class NotifySpec:
    name: str
    url: str
    events: tuple[str, ...]


@dataclass(frozen=True)
class Reminders:
    """When people hear again of a run that waits for one: so many seconds after it began to wait,
    and from the last of these on every `every` seconds (0: no more)."""

    after: tuple[float, ...] = (900.0, 3600.0)
    every: float = 14_400.0

    def due(self, waited: float) -> int:
        """How many reminders are due by now; 0 while only the first message is."""
        passed = sum(waited >= each for each in self.after)
        if passed < len(self.after) or not self.every:
            return passed
        return passed + int((waited - (self.after[-1] if self.after else 0.0)) / self.every)


@dataclass(frozen=True)
class Period:
    """So many years, months or days of the calendar."""

    count: int
    unit: str

    def before(self, day: date) -> date:
        """The day that lies this long before `day`; of a month that is shorter, its last one."""
        if self.unit == "d":
            return day - timedelta(days=self.count)
        months = day.year * 12 + day.month - 1 - self.count * (12 if self.unit == "y" else 1)
        year, month = divmod(months, 12)
        first_of_next = date(year + month // 11, (month + 1) % 12 + 1, 1)
        return min(date(year, month + 1, 1) + timedelta(days=day.day - 1),
                   first_of_next - timedelta(days=1))

    def __str__(self) -> str:
        return f"{self.count}{self.unit}"


@dataclass(frozen=True)
class Policy:
    """`sha256` is of the file's bytes; `environment` is shown beside the name everywhere.

    `runbooks` maps names to recipe data that override or extend the built-in ones; `stale_after`
    is how many probe intervals a reading stays usable. `store` is where the journal lives,
    `store_location` the place it stands in, as far as the policy says so, `mirror` the file in
    which each machine keeps what it sees of a shared store; `lease` the seconds for which a run
    may act after its last word from the store. `retention`: how long the ledger has to be kept;
    None: the policy does not say, and nothing of it may be deleted. `procedures`: recovery plans
    that a platform keeps, for steps of that name.
    """

    name: str
    environment: str
    path: str
    sha256: str
    currency: str
    timezone: str
    store: str | None
    sites: Mapping[str, Site]
    dependencies: Mapping[str, Dependency]
    providers: Mapping[str, ProviderSpec]
    queues: Mapping[str, Queue]
    triggers: Mapping[str, Trigger]
    guards: GuardLimits
    notify: tuple[NotifySpec, ...]
    runbooks: Mapping[str, Params]
    people: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    stale_after: float = 3.0
    store_location: str | None = None
    mirror: str | None = None
    remind: Reminders = field(default_factory=Reminders)
    lease: float = LEASE_SECONDS
    retention: Period | None = None
    procedures: Mapping[str, LeverSpec] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """Heads every output and every prompt."""
        return f"{self.name} ({self.environment}) {self.sha256[:12]}"

    def by_priority(self) -> list[Queue]:
        """Queues, the most important (lowest number) first."""
        return sorted(self.queues.values(), key=lambda queue: (queue.priority, queue.name))
