"""A right policy becomes the right objects; what is doubtful in it is told as a warning."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from ccfailover.errors import PolicyError, UsageError
from ccfailover.model.shares import Shares
from ccfailover.policy import stamp
from ccfailover.policy.find import find_policy
from ccfailover.policy.load import load, load_quick
from ccfailover.policy.places import Mark
from ccfailover.policy.read import read_text
from ccfailover.policy.shape import schema_text
from ccfailover.policy.starter import starter
from ccfailover.policy.units import duration, fraction, money, share, spoken
from ccfailover.wiring.kinds import Schemas

ROOT = Path(__file__).resolve().parents[3]
POLICIES = sorted((ROOT / "policies").glob("*.yaml"))
DAY = 86_400_000_000


def warnings(found) -> list[str]:
    return [f"{one.line}:{one.column} {one.message}" for one in found[1] if not one.is_error]


def test_the_right_policy_is_right(examine, right):
    """The policy that the other tests break has no problem of its own."""
    policy, problems = examine(right)
    assert problems == []
    assert policy is not None
    assert policy.heading == f"lender (production) {policy.sha256[:12]}"


def test_units_defaults_and_references_are_resolved(examine, swapped):
    """Durations are seconds, money exact, dates dates, percentages numbers, defaults filled in."""
    extra = """
    normal: {hq: 90%, acme: 10}
    priority: 2
    target: {service_level: 80%, within: 20s}
    shift: {increments: [25, 50, 100], soak: 1m30s}
    probes: [{site: acme, kind: tcp, host: a.example, port: 1, observer: colo}]
    fields: {amount: number, stage: text}
    item: {id: call_id}"""
    text = swapped("channel: voice", "channel: voice" + extra)
    text = text.replace("licences: [TX, OK]", "\n    ".join((
        "licences: {TX: 2030-06-30, OK: null}", "price: {per_minute: 0.85, per_application: 14.50}",
        "ramp: [{after: 0m, agents: 20}, {after: 30m, agents: 60}]", "contract_until: 2031-01-31",
        "sla: {service_level: 0.75, abandonment: 5%}", "data_classes: [credit]",
        "holidays: [2026-12-25, 2027-01-01]", "criteria_version: 7")))
    text += "probe_defaults: {every: 30s}\nguards: {daily_cost: 20000, flap_block: 1h}\n"
    text += "store: {path: /var/lib/x.db, location: colo}\nnotify: [{url: 'env:OPS'}]\n"
    policy, problems = examine(text)
    assert policy is not None, [str(one) for one in problems]
    acme, calls = policy.sites["acme"], policy.queues["calls"]
    assert acme.price.per_minute == Decimal("0.85")
    assert acme.price.per_application == Decimal("14.5")
    assert acme.ramp == ((0.0, 20), (1800.0, 60))
    assert acme.licences == {"TX": date(2030, 6, 30), "OK": None}
    assert (acme.holidays, acme.timezone) == ("2026-12-25,2027-01-01", "America/Chicago")
    assert (acme.criteria_version, acme.in_house) == ("7", False)
    assert acme.sla is not None
    assert (acme.sla.service_level, acme.sla.abandonment) == (0.75, 0.05)
    assert calls.normal == Shares({"hq": 90, "acme": 10})
    assert (calls.service_level, calls.within, calls.soak) == (0.8, 20.0, 90.0)
    assert (calls.increments, calls.rto, calls.mtd) == ((25, 50, 100), 900.0, 14400.0)
    assert calls.item == {"amount": "amount", "stage": "stage", "id": "call_id"}
    assert calls.fields == {"amount": "number", "stage": "text"}
    assert calls.route is not None
    assert calls.route.lever == "edge:calls"
    probe = calls.probes[0]
    assert (probe.key, probe.observer) == ("queue.calls.acme.0.tcp", "colo")
    assert probe.params == {"site": "acme", "host": "a.example", "port": 1}
    home_probe = policy.sites["hq"].probes[0]
    assert (home_probe.key, home_probe.every, home_probe.timeout) == ("site.hq.0.tcp", 30.0, 5.0)
    assert (home_probe.fall, home_probe.rise, home_probe.observer) == (3, 2, "controller")
    apps = policy.queues["apps"]
    assert (apps.in_disaster, apps.home_down) == ("refuse", "hold")
    assert apps.normal == Shares({"hq": 100})
    assert apps.backlogs["hq"].ref == "apps"
    assert apps.backlogs["acme"].lever == "jobs:apps_acme"
    assert (policy.store, policy.store_location) == ("/var/lib/x.db", "colo")
    assert (policy.guards.daily_cost, policy.guards.flap_block) == (Decimal(20000), 3600.0)
    assert (policy.notify[0].name, policy.notify[0].events) == ("notify_1", ())


@pytest.mark.parametrize(("extra", "when", "run", "subject"), [
    ("", 'site.acme.state == "down"', "full_failover", "acme"),
    (", site: hq", 'dependency.los.state == "down"', "full_failover", "hq"),
    ("", "queue.apps.depth > 5", "full_failover", "hq"),
    ("", "queue.apps.depth > 5", "overflow", "apps"),
    (", queue: calls", "site.hq.open", "overflow", "calls"),
])
def test_what_a_trigger_acts_on(examine, right, extra, when, run, subject):
    """Said, or the first site or queue named; a queue's home where the runbook needs a site."""
    policy, problems = examine(
        right + f"  more: {{when: '{when}', run: {run}{extra}}}\n")
    assert policy is not None, [str(one) for one in problems]
    assert policy.triggers["more"].subject == subject


@pytest.mark.parametrize(("given", "lease"), [
    ("store: /var/lib/x.db", 30.0), ("store: {path: /var/lib/x.db}", 30.0),
    ("store: {path: /var/lib/x.db, lease: 10s}", 10.0),
    ("store: {path: /var/lib/x.db, lease: 5m}", 300.0),
])
def test_a_lease_lasts_as_long_as_the_policy_says(examine, right, given, lease):
    """Half a minute where it says nothing."""
    policy, problems = examine(right + given + "\n")
    assert policy is not None, [str(one) for one in problems]
    assert policy.lease == lease
    assert problems == []


@pytest.mark.parametrize("lease", ["0", "4s", "301s", "1d"])
def test_a_lease_has_bounds(examine, right, lease):
    """Too short and a stutter of the store interrupts a run; too long and nobody waits it out."""
    policy, problems = examine(right + f"store: {{path: /x.db, lease: {lease}}}\n")
    assert policy is None
    assert ["must last from 5 s to 300 s" in str(one) for one in problems] == [True]


def test_a_call_that_may_outlast_the_lease_is_told(examine, swapped):
    """With the figures, and where to change it."""
    text = swapped('token: "env:TOKEN"', 'timeout: 6s, token: "env:TOKEN"')
    found = examine(text + "store: {path: /x.db, lease: 10s}\n")
    assert found[0] is not None
    told, = warnings(found)
    assert "a call to edge may take 6 s, more than half a lease (10 s)" in told
    assert examine(text + "store: {path: /x.db, lease: 12s}\n")[1] == []


def test_yaml_1_2_words(examine, swapped):
    """`NO` is a state, `10:30` a text: nothing is guessed as YAML 1.1 would."""
    policy, _ = examine(swapped("licences: [TX, OK]", "licences: [NO, ON]\n    location: 10:30"
                                ).replace("    location: tulsa\n", ""))
    assert policy is not None
    assert policy.sites["acme"].licences == {"NO": None, "ON": None}
    assert policy.sites["acme"].location == "10:30"


WARNINGS = {
    "capacity": ("load: {per_hour: 100}", "load: {per_hour: 200}", "33:22",
                 "after 15m (rto) the backups carry 120: acme 120 (10 heads × 3600 / 5m); 80 an"),
    "capacity_by_ramp": ("licences: [TX, OK]",
                         "ramp: [{after: 0m, agents: 4}, {after: 20m, agents: 60}]", "33:22",
                         "carry 48: acme 48 (4 heads × 3600 / 5m)"),
    "nobody_by_ramp": ("licences: [TX, OK]", "ramp: [{after: 1h, agents: 4}]", "33:22",
                       "acme 0 (nobody yet by its ramp)"),
    "detection": ("hold: 60s", "hold: 8m", "32:23",
                  "takes 10s × 3 + 8m = 8m30s (every × fall of the quickest probe + hold of "
                  "hq_down), over half of the rto of 15m"),
    "detection_too_long": ("hold: 60s", "hold: 1h", "32:23", "1h30s"),
    "no_trigger": ("triggers:\n", "triggers: {}\nrunbooks: {}\n#", "", "no trigger acts on hq"),
    "no_probe": ("    probes: [{kind: tcp, host: hq.example, port: 443}]\n", "", "5:3",
                 "hq has no probes: its state will always be unknown"),
    "one_observer": ("mode: approve", "mode: automatic", "45:",
                     "needs two independent observers of hq, and it is watched by controller: it "
                     "will only advise"),
    "shared_place": ("replica: {location: dc_west}", "replica: {location: dc_east}", "29:15",
                     "everything that acme depends on stands where hq's does (dc_east)"),
    "same_building": ("location: tulsa", "location: chicago", "29:15", "stand in the same place"),
    "unused_site": ("sites:\n", "sites:\n  annex: {kind: in_house}\n", "5:3",
                    "site annex is used by nothing"),
    "unused_provider": ("providers:\n", "providers:\n  old: {kind: mq}\n", "23:3",
                        "provider old is used by nothing"),
    "unused_dependency": ("dependencies:\n", "dependencies:\n  vpn: {}\n", "20:3",
                          "dependency vpn is used by nothing"),
    "no_backlog_there": (", acme: {provider: jobs, ref: apps_acme}", "", "38:15",
                         "acme has no backlog of apps"),
    "nothing_comes_back": ("acme: {provider: jobs, ref: apps_acme}",
                           "acme: {provider: jobs, ref: apps_acme, put_only: true}", "43:37",
                           "what acme was given of apps stays there to its end"),
    "holidays_unknown": ("    holidays: US\n", "", "8:32", "PH means nothing here"),
    "unmeasured": ('site.hq.state == "down"',
                   'site.hq.state == "down" || queue.calls.arrivals_per_hour > 9.0', "45:47",
                   "nothing measures queue.calls.arrivals_per_hour yet"),
}


@pytest.mark.parametrize("name", WARNINGS)
def test_what_the_policy_will_not_achieve_is_said_with_figures(name, examine, swapped):
    """A warning at its place; the policy can be used."""
    old, new, place, words = WARNINGS[name]
    found = examine(swapped(old, new))
    assert found[0] is not None, [str(one) for one in found[1]]
    hits = [one for one in warnings(found) if words in one]
    assert hits, warnings(found)
    assert any(one.startswith(place) for one in hits), hits


@pytest.mark.parametrize(("can", "old", "new", "words"), [
    ({"step": 10}, "channel: voice", "channel: voice\n    normal: {hq: 95, acme: 5}",
     "moves shares in steps of 10 %, so that hq: 95 cannot be set"),
    ({"treatments": False}, "priority", "priority", "has no treatments, so that nothing can go to"),
    ({"destinations": frozenset({"hq", "callback"})}, "priority", "priority",
     "edge has no way to acme for calls's route"),
    ({"destinations": frozenset({"hq", "acme"})}, "priority", "priority",
     "edge has no way to callback"),
])
def test_a_lever_must_be_able_to_do_what_is_asked(
    can, old, new, words, examine, right, small_kinds
):
    """Steps, treatments and destinations, as the kind declares them."""
    text = right.replace(old, new, 1)
    policy, problems = examine(text, with_kinds=small_kinds(**can))
    assert policy is None
    assert any(words in one.message for one in problems), [str(one) for one in problems]


def test_what_lapses_is_told_in_time_and_never_stops_a_failover(examine, swapped, now, tmp_path,
                                                                 kinds):
    """30 days before: a warning. After: an error in `check`, and yet `load` gives the policy."""
    today = date(2026, 9, 21)
    assert now // DAY == (today - date(1970, 1, 1)).days
    text = swapped("licences: [TX, OK]", "licences: {TX: 2026-09-20, OK: 2026-10-21, KS: null}\n"
                   "    contract_until: 2026-09-21\n    due_diligence: 2026-10-22")
    for validate in (True, False):
        policy, problems = examine(text, validate=validate)
        assert policy is not None
        told = {(one.line, one.severity) for one in problems}
        assert told == {(18, "error"), (18, "warning"), (19, "warning")}
        assert "the TX licence of acme ended on 2026-09-20" in str(problems[0])
        assert "in 30 days" in str(problems[1])
    assert load(str(tmp_path / "policy.yaml"), kinds, now=now + 90 * DAY).name == "lender"
    assert len([one for one in examine(text, now=now + 90 * DAY)[1] if one.is_error]) == 4


def test_a_stamp_spares_the_second_validation(tmp_path, right, kinds, now):
    """The stamp is for these very bytes: one changed byte, and the policy is validated again."""
    environ = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    path = tmp_path / "policy.yaml"
    path.write_text(right)
    known = stamp.digest(load_quick(str(path), kinds, now=now, environ=environ).sha256)
    assert stamp.is_stamped(known, environ)
    left = sorted((tmp_path / "cache/ccfailover/valid").iterdir())
    assert oct((tmp_path / "cache/ccfailover/valid").stat().st_mode)[-3:] == "700"
    assert load_quick(str(path), None, now=now, environ=environ).name == "lender"
    path.write_text(right.replace("home: hq", "home: hw"))
    with pytest.raises(PolicyError, match="problem"):
        load_quick(str(path), kinds, now=now, environ=environ)
    assert sorted((tmp_path / "cache/ccfailover/valid").iterdir()) == left


@pytest.mark.parametrize("fault", ["open", "file", "link", "mode", "nowhere", "no_home"])
def test_a_stamp_that_others_could_forge_is_none(fault, tmp_path, right, kinds, now):
    """A folder that is not ours alone means "not stamped", never an error."""
    cache = tmp_path / "cache"
    environ = {"XDG_CACHE_HOME": str(cache)}
    known = "0" * 64
    if fault == "nowhere":
        environ = {"XDG_CACHE_HOME": "/proc/none", "HOME": "/proc/none"}
    elif fault == "no_home":
        environ = {"XDG_CACHE_HOME": "relative"}
    else:
        assert stamp.put(known, environ)
        assert stamp.is_stamped(known, environ)
        place = cache / "ccfailover" / "valid"
        if fault == "open":
            place.chmod(0o770)
        elif fault == "file":
            (place / known).unlink()
            place.rmdir()
            place.write_text("")
        elif fault == "mode":
            (place / known).chmod(0o640)
        else:
            place.rename(tmp_path / "other")
            place.symlink_to(tmp_path / "other")
    assert not stamp.is_stamped(known, environ)
    path = tmp_path / "policy.yaml"
    path.write_text(right)
    assert load_quick(str(path), kinds, now=now, environ=environ).name == "lender"


def test_a_stamp_that_is_wrong_about_a_file_does_not_crash(examine, swapped):
    """With validate=False, a file that cannot be built is checked after all."""
    policy, problems = examine(swapped("    home: hq\n", ""), validate=False)
    assert policy is None
    assert any("lacks `home`" in one.message for one in problems)


def test_status_and_check_import_little():
    """Neither importing `load` nor loading a trusted file brings in the heavy libraries."""
    program = (
        "import sys\nfrom ccfailover.policy.load import check\n"
        "heavy = {'jsonschema', 'opening_hours', 'cel_expr_python', 'rich', 'zoneinfo'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        f"policy, problems = check({str(POLICIES[0])!r}, None, now=0, validate=False)\n"
        "assert policy and not problems, problems\n"
        "heavy -= {'zoneinfo'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True,
                          text=True, timeout=60, env={"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("path", POLICIES, ids=lambda path: path.stem)
def test_the_example_policies_are_valid(path, now):
    """Each example is sound, with the real kinds, without a warning, and names the schema."""
    from ccfailover.policy.load import check

    policy, problems = check(str(path), Schemas(), now=now)
    assert [str(one) for one in problems] == []
    assert policy is not None
    assert policy.name == path.stem
    first = path.read_text().splitlines()[0]
    assert first.startswith("# yaml-language-server: $schema=")
    assert (path.parent / first.partition("$schema=")[2]).resolve() \
        == ROOT / "ccfailover/policy/schema.json"


def test_there_are_three_examples():
    """Consumer loans, seasonal overflow, extended hours."""
    assert {path.stem for path in POLICIES} >= {"consumer_loans", "seasonal_overflow",
                                                "extended_hours"}


def test_the_starter_is_valid_and_has_the_names_asked_for(tmp_path, now):
    """`init` writes a policy that `validate` has nothing to say about."""
    from ccfailover.policy.load import check

    path = tmp_path / "first.yaml"
    path.write_text(starter("my_lender", home="dallas", backup="partner", queue="calls"))
    policy, problems = check(str(path), Schemas(), now=now)
    assert [str(one) for one in problems] == []
    assert policy is not None
    assert set(policy.sites) == {"dallas", "partner"}
    assert path.read_text().splitlines()[0].endswith(os.path.join("policy", "schema.json"))


@pytest.mark.parametrize("names", [("Bad-Name", "hq", "acme"), ("ok", "callback", "acme"),
                                   ("ok", "hq", "hq"), ("ok: {}\nx", "hq", "acme")])
def test_the_starter_refuses_names_that_no_policy_could_hold(names):
    """Also names that would break out of the YAML."""
    with pytest.raises(UsageError):
        starter(names[0], home=names[1], backup=names[2])


def test_the_policy_is_never_found_by_the_working_directory(tmp_path, monkeypatch):
    """--policy, $CCFAILOVER_POLICY, the system's; the first one given counts, there or not."""
    here, system = tmp_path / "policy.yaml", tmp_path / "system.yaml"
    here.write_text("")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="no policy") as caught:
        find_policy(None, {}, system=str(system))
    assert "$CCFAILOVER_POLICY (not set)" in str(caught.value.not_done)
    assert str(system) in str(caught.value.not_done)
    system.write_text("")
    assert find_policy(None, {}, system=str(system)) == str(system)
    environ = {"CCFAILOVER_POLICY": "policy.yaml"}
    assert find_policy(None, environ, system=str(system)) == str(here)
    assert find_policy(str(system), environ, system="/none") == str(system)
    with pytest.raises(UsageError, match=r"--policy names gone\.yaml"):
        find_policy("gone.yaml", environ, system=str(system))
    with pytest.raises(UsageError, match="CCFAILOVER_POLICY names"):
        find_policy(None, {"CCFAILOVER_POLICY": "gone"}, system=str(system))


def test_the_schema_is_a_schema_with_help_for_editors():
    """JSON Schema 2020-12, every property of every noun described."""
    schema = json.loads(schema_text())
    Draft202012Validator.check_schema(schema)
    for noun in ("site", "queue", "trigger", "guards"):
        for name, one in schema["$defs"][noun]["properties"].items():
            target = schema["$defs"][one["$ref"].rpartition("/")[2]] if "$ref" in one else one
            assert "description" in {**target, **one}, f"{noun}.{name}"


def test_what_the_schema_calls_a_duration_can_be_read():
    """Schema and reader agree on what a duration is."""
    pattern = json.loads(schema_text())["$defs"]["duration"]
    validator = Draft202012Validator(pattern)
    texts = ["10s", "5m", "2h", "1d", "1h30m", "500ms", "1.5h", "1m500ms", 0, "", "10", "m", "1m1h",
             "10 s", "-5s", "1e3s", "5M", 10, None, "5ms3s"]
    for text in texts:
        try:
            duration(text)
            readable = True
        except ValueError:
            readable = False
        assert validator.is_valid(text) == readable, text
    assert [duration(text) for text in texts[:9]] == [10, 300, 7200, 86400, 5400, 0.5, 5400, 60.5,
                                                      0]


def test_units():
    """Percentages, shares, money; and durations as people say them."""
    assert (fraction("80%"), fraction(0.8), share("70%"), share(70)) == (0.8, 0.8, 70, 70)
    assert money(14.50) == Decimal("14.5")
    assert [spoken(one) for one in (0, 0.5, 90, 3600, 90061)] == ["0s", "500ms", "1m30s", "1h",
                                                                   "1d1h1m1s"]
    for reader, wrong in ((fraction, 1.5), (fraction, True), (share, 50.5), (share, True),
                          (money, None)):
        with pytest.raises(ValueError, match="must be"):
            reader(wrong)


@pytest.mark.parametrize("written", [
    'when: site.x == 1', "when: 'site.x == 1'", 'when: "site.x == 1"',
    "when: |\n  site.x\n  == 1", "when: >-\n  site.x\n  == 1", "when: site.x\n  == 1",
    'when: "site\\x2ex == 1"', "when: 'site.x\n\n  == 1'", "é: ü\nwhen: 'site.x == 1'",
])
def test_a_place_inside_a_text_is_exact(written):
    """In every style in which YAML can write it, `==` is found where it stands."""
    document, problems = read_text(written.encode(), "p.yaml")
    assert document is not None, problems
    value = document.data["when"]
    mark = document.places.inside(("when",), value, value.index("=="))
    lines = written.split("\n")
    assert lines[mark.line - 1][mark.column - 1:].startswith("=="), mark


def test_a_policy_of_ordinary_size_with_anchors(examine, right):
    """Aliases are fine; a problem in what they repeat is told at the place of both."""
    text = right.replace("staff: {calls", "staff: &s {calls", 1)
    one, two = text.split("  acme:\n", 1)
    text = one + "  acme:\n" + two.replace("staff: {calls: {agents: 10, handle_time: 5m}}",
                                           "staff: *s", 1)
    policy, problems = examine(text)
    assert policy is not None, [str(one) for one in problems]
    assert policy.sites["acme"].staff == policy.sites["hq"].staff
    assert yaml.safe_load(text)["sites"]["acme"]["staff"]


def test_the_place_of_nothing_is_the_beginning():
    """A path that leads nowhere gives its nearest ancestor."""
    document, _ = read_text(b"a:\n  b: 1\n", "p.yaml")
    assert document is not None
    assert document.places.value(("a", "x", "y")) == Mark(2, 3)
    assert document.places.value(("x",)) == Mark(1, 1)


def test_a_long_policy_loads(tmp_path, now):
    """403 lines and more, every line of them used: the examples' shapes, forty queues."""
    from ccfailover.policy.load import check

    queues = "".join(f"""  line_{n}:
    channel: voice
    home: hq
    backups: [acme]
    outsource: allowed
    home_down: callback
    priority: {n % 9 + 1}
    target: {{service_level: 80%, within: 20s}}
    route: {{provider: edge}}
    shift: {{increments: [50, 100], soak: 5s}}
""" for n in range(40))
    text = starter("long_one")
    head, tail = text.split("queues:\n", 1)
    path = tmp_path / "long.yaml"
    path.write_text(f"{head}queues:\n{queues}{tail}")
    assert len(path.read_text().splitlines()) > 403
    policy, problems = check(str(path), Schemas(), now=now)
    assert [str(one) for one in problems] == []
    assert policy is not None
    assert len(policy.queues) == 41
    trusted, _ = check(str(path), Schemas(), now=now, validate=False)
    assert trusted == policy
