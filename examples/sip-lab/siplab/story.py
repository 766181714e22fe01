"""One story: calls flow, hq fails, ccfailover notices and moves them, hq is mended, they return."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from siplab import calls
from siplab.control import Control, write_policy
from siplab.machines import Machines, Tally
from siplab.network import HOSTS, Network

FAULTS: Mapping[str, str] = {
    "frozen": "hq is frozen: kill -STOP",
    "killed": "hq is killed: kill -9",
    "cut": "hq's cable is pulled",
    "mute": "hq hears all, and nothing that it says arrives",
}
NO_INVITE_AFTER = 1.0
"""Seconds after the decision from when on no new call may reach hq."""
FIRST_CALL_WITHIN = 0.25
"""Seconds from the shift within which acme must have answered a first call."""
PATIENCE = 120.0
"""Seconds after which the lab gives up waiting for what must come: long, for a busy machine."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """`cps`: calls a second; `hold`: seconds that a call lasts; `spill`: whether the edge itself
    tries another site where one is silent; `away`: seconds that the calls stay away; `patience`:
    seconds for which hq must be down before anything is decided; `every`: seconds between two runs
    of the cron job."""

    fault: str
    cps: int = 50
    hold: float = 6.0
    spill: bool = True
    away: float = 4.0
    patience: float = 0.0
    every: float = 1.0

    @property
    def servicing_cps(self) -> int:
        return max(1, self.cps // 5)


@dataclass(frozen=True)
class Check:
    """One thing that must be so, whether it is, and the figure. `timed`: by the clock, so that a
    machine which has no time for it can break it, too."""

    name: str
    holds: bool
    figure: str
    timed: bool = False


@dataclass(frozen=True)
class Result:
    """All that one story showed. Times in seconds; `marks` since the first call."""

    settings: Settings
    marks: Mapping[str, float]
    phases: Sequence[calls.Phase]
    held: Mapping[str, Sequence[calls.Held]]
    servicing: Mapping[str, int]
    last_invite_at_hq: float | None
    """From the decision to the last new INVITE at hq's door; None: none came after it."""
    first_answer_at_acme: float | None
    """From the shift to the first answer that acme gave to a call sent there first."""
    failback_failed: int
    doors: Mapping[str, int]
    """Site → distinct calls whose INVITE came to its door."""
    checks: Sequence[Check]
    timeline: Mapping[str, Sequence[int]] = field(default_factory=dict)
    """Site, `cut` or `lost` → calls that began in each half second, by who saw them through."""
    unread: Mapping[str, int] = field(default_factory=dict)
    """Machine → messages that reached it and were thrown away: its programs did not read in time,
    and their buffers were full."""

    @property
    def ok(self) -> bool:
        return all(check.holds for check in self.checks)

    @property
    def healthy_dropped(self) -> int:
        """Calls cut at sites that were well at the time."""
        return sum(one.dropped for at, there in self.held.items() for one in there
                   if one.site != "hq" or at == "failback_begun")

    def facts(self) -> dict[str, Any]:
        return {"ok": self.ok, **asdict(self)}


class Story:
    """Runs one. `say` is told what happens while it happens."""

    def __init__(self, settings: Settings, folder: Path, say: Say) -> None:
        self.settings = settings
        self.folder = folder
        self._say = say
        self._began = 0.0
        self.marks: dict[str, float] = {}

    def run(self) -> Result:
        """Raises RuntimeError when the lab cannot be built, or nothing happens in time."""
        with Network() as net, Machines(net, self.folder) as machines:
            machines.spill(self.settings.spill)
            policy = self.folder / "policy.yaml"
            write_policy(machines, policy, cps=self.settings.cps, hold=self.settings.hold,
                         patience=self.settings.patience)
            control = Control(machines, policy, self.settings.every)
            valid = control.say("validate", str(policy))
            if valid.code:
                raise RuntimeError(f"the lab's policy is refused: {valid.out}{valid.err}")
            with control:
                self._live(machines, control)
                self._die(machines, control)
                self._return(machines, control)
            tallies = machines.hang_up(self.settings.hold + 20)
            self._tell("every call is over")
            journal = control.journal()
            unread = {host: count for host in HOSTS if (count := net.overflowed(host))}
            taps = machines.taps()
            machines.stop()
            own = {site: machines.own_count(site) for site in calls.SITES}
        return replace(judge(self.settings, self.marks, journal, taps, own, tallies),
                       unread=unread)

    def _tell(self, what: str) -> None:
        self._say(f"{time.time() - self._began:6.2f} s  {what}")

    def _mark(self, name: str, what: str) -> None:
        self.marks[name] = time.time()
        self._tell(what)

    def _live(self, machines: Machines, control: Control) -> None:
        settings = self.settings
        control.until("hq is healthy", lambda: control.site("hq") == "healthy", PATIENCE)
        self._began = time.time()
        self._mark("calls", f"{settings.cps} loan calls a second to hq, "
                            f"{settings.servicing_cps} a second to acme's own line")
        machines.start_caller("loan_calls", settings.cps, settings.hold)
        machines.start_caller("servicing", settings.servicing_cps, settings.hold)
        time.sleep(settings.hold + 1)
        self._tell(f"{machines.live('hq')} calls in progress at hq, {machines.live('acme')} at "
                   "acme")

    def _die(self, machines: Machines, control: Control) -> None:
        fault = self.settings.fault
        breaks: dict[str, Callable[[], None]] = {
            "frozen": lambda: machines.sites["hq"].send_signal(signal.SIGSTOP),
            "killed": machines.sites["hq"].kill,
            "cut": lambda: machines.net.cut("hq"),
            "mute": lambda: machines.net.mute("hq"),
        }
        self._mark("fault", FAULTS[fault])
        breaks[fault]()
        self.marks["broken"] = time.time()
        control.until("the calls are moved",
                      lambda: not machines.shares("loan_calls")["hq"], PATIENCE)
        now = ", ".join(f"{site} {share} %" for site, share
                        in machines.shares("loan_calls").items() if share)
        self._tell(f"check found it down, execute-due has moved the calls: {now}")
        time.sleep(self.settings.away)

    def _return(self, machines: Machines, control: Control) -> None:
        mends: dict[str, Callable[[], None]] = {
            "frozen": lambda: machines.sites["hq"].send_signal(signal.SIGCONT),
            "killed": lambda: machines.start_site("hq"),
            "cut": lambda: machines.net.mend("hq"),
            "mute": lambda: machines.net.unmute("hq"),
        }
        self._mark("mended", "hq is mended")
        mends[self.settings.fault]()
        control.until("hq is healthy again",
                      lambda: control.site("hq") == "healthy" and machines.states()["hq"] == "AP"
                      and control.rounds[-1]["at"] / 1e6 > self.marks["mended"], PATIENCE)
        self._mark("healthy", "both observers and the edge find hq healthy")
        with ThreadPoolExecutor(1) as engineer:
            asked = engineer.submit(control.act, "failback", "hq",
                                    reason=f"lab: {self.settings.fault}")
            control.until("new calls go to hq", lambda: asked.done()
                          or machines.shares("loan_calls")["hq"] == 100, PATIENCE)
            left = [f"{machines.live_of('loan_calls', site)} at {site}"
                    for site in ("acme", "message")]
            self._tell(f"failback: new calls go to hq; {' and '.join(left)} are let finish")
            said = asked.result()
        if said.code:
            raise RuntimeError(f"failback: {said.code} {said.out} {said.err}")
        self._tell("its step `drain` has seen the last of them at acme end")


def _decided(journal: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """From the journal alone: when the trigger fired, and when each run's shift began and held."""
    found: dict[str, float] = {}
    runbooks: dict[str, str] = {}
    records = [line["record"] for line in journal if "record" in line]
    for record in sorted(records, key=lambda one: one["at"]):
        at, kind, data = record["at"] / 1e6, record["kind"], record["data"]
        if kind == "trigger.fired":
            found.setdefault("decision", at)
        elif kind == "run.created":
            runbooks[f"run:{data['run']}"] = data["runbook"]
        elif kind in ("step.started", "step.succeeded"):
            back = runbooks.get(record["stream"]) == "failback"
            if "shift_route" in data["step"]:
                name = "failback" if back else "shift"
                found[f"{name}_{'begun' if kind == 'step.started' else 'done'}"] = at
            elif back and "drain" in data["step"] and kind == "step.succeeded":
                found["drained"] = at
    return found


def judge(settings: Settings, marks: Mapping[str, float], journal: Sequence[Mapping[str, Any]],
          taps: Mapping[str, Sequence[str]], own: Mapping[str, set[str]],
          tallies: Mapping[str, Tally]) -> Result:
    """What the taps, the sites, the callers and the journal say together."""
    when = {**marks, **_decided(journal)}
    every = calls.calls(taps["edge"])
    loans = [call for call in every if call.line == "loan_calls"]
    servicing = [call for call in every if call.line == "servicing"]
    for call in loans:
        # A site that was mended in time answers the hang-up; the call was cut all the same.
        call.silenced = call.site == "hq" and call.in_progress(when["broken"])
    doors = {site: calls.arrivals(taps[site]) for site in calls.SITES}
    edges = [("before", "calls", "fault"), ("detect", "fault", "decision"),
             ("decide", "decision", "shift_begun"), ("execute", "shift_begun", "shift_done"),
             ("away", "shift_done", "failback_begun"), ("return", "failback_begun", "end")]
    when["end"] = max(call.began for call in every) + 1e-6
    phases = [calls.phase(name, loans, when[begin], when[end]) for name, begin, end in edges]
    held = {at: calls.held(every, when[at]) for at in ("fault", "shift_begun")}
    held["failback_begun"] = calls.held([call for call in every if not call.silenced],
                                        when["failback_begun"])
    late = [at - when["decision"] for at in doors["hq"].values()
            if when["decision"] < at < when["failback_begun"]]
    last = max(late, default=None)
    sent_first = {call.id for call in loans if call.tries and call.tries[0][0] == "acme"}
    first = min((at - when["shift_begun"] for call, at in calls.answers(taps["acme"]).items()
                 if call in sent_first and at >= when["shift_begun"]), default=None)
    returned = [call for call in loans if call.began >= when["failback_begun"]]
    result = Result(
        settings, {name: at - when["calls"] for name, at in sorted(when.items(),
                                                                   key=lambda one: one[1])},
        phases, held, {"calls": len(servicing), "lost": sum(call.lost for call in servicing),
                            "cut": sum(call.dropped for call in servicing)},
        last, first, sum(call.failed for call in returned),
        {site: len(found) for site, found in doors.items()}, (),
        timeline(loans, when["calls"], when["end"]))
    return replace(result, checks=tuple(checks(result, loans, every, doors, own, tallies, when)))


def checks(result: Result, loans: Sequence[calls.Call], every: Sequence[calls.Call],
           doors: Mapping[str, Mapping[str, float]], own: Mapping[str, set[str]],
           tallies: Mapping[str, Tally], when: Mapping[str, float]) -> Iterator[Check]:
    for at, name in (("fault", "when hq failed"), ("shift_begun", "when the calls were moved"),
                     ("failback_begun", "when they returned")):
        there = [one for one in result.held[at] if one.site != "hq" or at == "failback_begun"]
        dropped = sum(one.dropped for one in there)
        yield Check(f"calls in progress on healthy sites {name}: none dropped", not dropped,
                    f"{dropped} of {sum(one.calls for one in there)}")
    after = [call for call in loans if call.began >= when["shift_done"]]
    lost = sum(call.failed for call in after)
    yield Check("new calls after the shift: none lost, none dropped", bool(after) and not lost,
                f"{lost} of {len(after)}")
    last, first = result.last_invite_at_hq, result.first_answer_at_acme
    yield Check(f"no new INVITE at hq later than {NO_INVITE_AFTER:g} s after the decision",
                last is None or last <= NO_INVITE_AFTER,
                "none after it" if last is None else f"the last after {last * 1000:.0f} ms",
                timed=True)
    yield Check(f"first call answered at acme within {FIRST_CALL_WITHIN * 1000:.0f} ms of the "
                "shift", first is not None and first <= FIRST_CALL_WITHIN,
                "none" if first is None else f"{first * 1000:.0f} ms", timed=True)
    strays = sum("hq" in dict(call.tries) or call.id in doors["hq"] for call in after
                 if call.began < when["failback_begun"])
    yield Check("no call that began after the shift was sent to hq", not strays, str(strays))
    back = result.phases[-1]
    yield Check("hq answers again after failback, and no call failed from then on",
                back.answered["hq"] > 0 and not result.failback_failed,
                f"{result.failback_failed} of {back.new} failed, hq answered {back.answered['hq']}")
    there, left = (sum(call.site == "acme" and call.in_progress(when[at]) for call in loans)
                   for at in ("failback_done", "drained"))
    yield Check("failback's step `drain` ended when acme's last loan call had", there > 0 == left,
                f"{left} of {there} left")
    own_line = result.servicing
    yield Check("acme's own line noticed nothing", not own_line["lost"] + own_line["cut"],
                f"{own_line['lost']} lost, {own_line['cut']} cut of {own_line['calls']}")
    for site in ("acme", "message"):
        wire = set(doors[site])
        yield Check(f"{site}'s own count is what came to its door", wire == own[site],
                    f"{len(own[site])} and {len(wire)}")
    good = sum(call.hung_up_well for call in every)
    told = sum(tally.good for tally in tallies.values())
    yield Check("the callers' own count of good calls is ours", good == told, f"{told} and {good}")


def timeline(loans: Sequence[calls.Call], begin: float, end: float) -> dict[str, list[int]]:
    slots = int((end - begin) * 2) + 1
    rows = {name: [0] * slots for name in (*calls.SITES, "cut", "lost")}
    for call in loans:
        slot = int((call.began - begin) * 2)
        if 0 <= slot < slots:
            name = "lost" if call.lost else "cut" if call.dropped else call.site or "lost"
            rows[name][slot] += 1
    return rows
