"""Broken policies: each is refused with file:line:col and a sentence that helps."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ccfailover.errors import Exit, PolicyError
from ccfailover.policy.load import load

# What is changed in the right policy: (old, new, place as line:col or line, words of the message).
SWAPS = {
    "unknown_key": ("kind: in_house", "kind: in_house\n    locaton: chicago",
                    "7:5", "unknown key `locaton` in sites.hq; did you mean `location`?"),
    "unknown_key_at_top": ("version: 1", "version: 1\nsitez: {}", "2:1",
                           "unknown key `sitez`; did you mean `sites`?"),
    "unknown_key_far_from_all": ("version: 1", "version: 1\nxyzzy: {}", "2:1",
                                 "unknown key `xyzzy`"),
    "missing_key": ("    channel: voice\n", "", "26:3", "queues.calls lacks `channel`"),
    "missing_version": ("version: 1\n", "", "1:1", "the policy lacks `version`"),
    "wrong_version": ("version: 1", "version: 2", "1:10", "must be 1"),
    "text_for_number": ("agents: 10", "agents: ten", "12:29",
                        "sites.hq.staff.calls.agents must be a whole number, is `ten`"),
    "number_for_text": ("name: lender", "name: 7", "2:7", "name must be a name"),
    "underscored_number": ("agents: 10", "agents: 1_0", "12:29", "must be a whole number"),
    "list_for_mapping": ("sites:\n", "sites: [hq]\nother:\n", "4:8",
                         "sites must be a mapping, is a list"),
    "mapping_for_list": ("backups: [acme]", "backups: {acme: 1}", "29:14", "must be a list"),
    "empty_value": ("home: hq", "home:", "28:10", "is empty: give it a value"),
    "dash_in_name": ("hq_down: {when", "hq-down: {when", "45:3",
                     "`hq-down` must be a name of lower-case letters"),
    "enum": ("outsource: allowed", "outsource: alowed", "30:16",
             "must be one of never, overflow_only, allowed, is `alowed`; did you mean `allowed`?"),
    "bad_duration": ("hold: 60s", "hold: 60", "45:52", "must be a duration with its unit"),
    "duration_with_words": ("rto: 15m", "rto: 15 minutes", "32:23", "such as 10s, 5m"),
    "negative_duration": ("rto: 15m", "rto: -15m", "32:23", "must be a duration"),
    "minus_number": ("agents: 10", "agents: -1", "12:29", "must be at least 0, is -1"),
    "boolean_for_number": ("agents: 10", "agents: true", "12:29", "must be a whole number"),
    "bad_timezone": ("America/Chicago", "America/Chicgo", "3:11",
                     "is not a time zone; did you mean `America/Chicago`?"),
    "timezone_outside": ("America/Chicago", "../../etc/passwd", "3:11", "is not a time zone"),
    "bad_country": ("holidays: US", "holidays: XQ", "9:15", "XQ"),
    "bad_holiday": ("holidays: US", "holidays: [2026-13-01]", "9:15", "calendar"),
    "bad_date": ("licences: [TX, OK]", "contract_until: 2026-02-30", "18:21",
                 "`2026-02-30` is not a day of the calendar"),
    "bad_hours": ("Mo-Fr 08:00-20:00", "Mo-Fr 8-20", "8:19", "`8-20` is not understood"),
    "hours_too_late": ("Mo-Fr 08:00-20:00", "Mo-Fr 25:00-30:00", "8:19", "not opening hours"),
    "bad_condition": ('site.hq.state == "down"', 'site.hq.stat == "down"', "45:20",
                      "`site.hq.stat` is not known here; did you mean `site.hq.state`?"),
    "condition_syntax": ('site.hq.state == "down"', 'site.hq.state = "down"', "45:34",
                         "write == to compare"),
    "condition_word": ('site.hq.state == "down"', 'site.hq.open and site.hq.open', "45:33",
                       "write && instead of `and`"),
    "condition_type": ('site.hq.state == "down"', 'site.hq.state == 3', "45:34",
                       "cannot be applied to text and a whole number"),
    "condition_not_boolean": ('site.hq.state == "down"', 'queue.apps.depth', "45:20",
                              "must be true or false"),
    "condition_number": ('site.hq.state == "down"', "queue.apps.arrivals_per_hour > 6", "45:49",
                         "write 600.0 instead of 600"),
    "condition_duration": ('site.hq.state == "down"', 'queue.apps.oldest > duration("1d")',
                           "45:50", "its units are h, m and s"),
    "condition_depth": ('site.hq.state == "down"', "(" * 200 + "true" + ")" * 200, "45:20",
                        "nested too deeply"),
    "condition_ends": ('site.hq.state == "down"', "site.hq.open ||", "45:35", "ends too soon"),
    "bad_eligible": ("item.state in", "item.stat in", "40:16",
                     "`item.stat` is not known here; did you mean `item.state`?"),
    "dangling_home": ("home: hq", "home: hw", "28:11",
                      "there is no site `hw`; did you mean `hq`?"),
    "dangling_backup": ("backups: [acme]", "backups: [acmee]", "29:15",
                        "there is no site `acmee`; did you mean `acme`?"),
    "dangling_dependency": ("depends_on: [los]", "depends_on: [lso]", "10:18",
                            "there is no dependency `lso`; did you mean `los`?"),
    "dangling_provider": ("route: {provider: edge}", "route: {provider: egde}", "34:23",
                          "there is no provider `egde`; did you mean `edge`?"),
    "dangling_runbook": ("run: full_failover", "run: full_failovr", "45:62",
                         "there is no runbook `full_failovr`; did you mean `full_failover`?"),
    "dangling_staff": ("staff: {calls", "staff: {cals", "12:13", "there is no queue `cals`"),
    "unknown_provider_kind": ("kind: switch", "kind: swich", "23:16",
                              "there is no provider kind `swich`; did you mean `switch`?"),
    "unknown_probe_kind": ("kind: tcp", "kind: tpc", "11:21", "there is no probe kind `tpc`"),
    "provider_key": ('url: "http://127.0.0.1:1/"', 'uri: "http://127.0.0.1:1/"', "23",
                     "unknown key `uri` in providers.edge; did you mean `url`?"),
    "provider_key_of_open_schema": ("{kind: mq}", "{kind: mq, region: x}", "24:20",
                                    "unknown key `region`"),
    "probe_port": ("port: 443", "port: 99999", "11:50", "must be at most 65535, is 99999"),
    "lever_key": ("route: {provider: edge}", "route: {provider: edge, refs: x}", "34:29",
                  "unknown key `refs` in queues.calls.route; did you mean `ref`?"),
    "site_on_site_probe": ("port: 443", "port: 443, site: hq", "11:55", "unknown key `site`"),
    "literal_secret": ("env:TOKEN", "hunter2-s3cret", "23:59", "must be a reference to a secret"),
    "secret_of_wrong_type": ('"env:TOKEN"', "[hunter2-s3cret]", "23:59", "must be a reference"),
    "password_in_url": ("http://127.0.0.1:1/", "http://bob:hunter2-s3cret@switch/", "23:29",
                        "this URL holds a password"),
    "shares_not_100": ("channel: voice", "channel: voice\n    normal: {hq: 60, acme: 30}", "28:5",
                       "sum to 90, not to 100"),
    "share_half": ("channel: voice", "channel: voice\n    normal: {hq: 99.5, acme: 0.5}", "28:18",
                   "must be a whole percentage"),
    "share_to_stranger": ("channel: voice", "channel: voice\n    normal: {hq: 60, acm: 40}",
                          "28:22", "there is no site or treatment `acm`; did you mean `acme`?"),
    "rto_over_mtd": ("rto: 15m", "rto: 5h", "32:23",
                     "is to be back within 5h (rto), and yet may be down for 4h at most"),
    "never_but_outsourced": ("outsource: allowed", "outsource: never", "29:15",
                             "says outsource: never, and its backup acme is outsourced"),
    "never_without_treatment": ("outsource: allowed\n    home_down: callback",
                                "outsource: never", "26:3", "must say `home_down`"),
    "intake_not_redirected": ("    intake: {provider: edge}\n", "", "42:5",
                              "has backlogs to move and no `intake`"),
    "backup_needs_home": ("replica: {location: dc_west}", "replica: {location: chicago}", "29:15",
                          "acme needs replica, which stands in chicago"),
    "backup_needs_home_by_name": ("replica: {location: dc_west}", "replica: {location: hq}",
                                  "29:15", "its backup fails with it"),
    "store_in_site": ("version: 1", "version: 1\nstore: {path: /x.db, location: chicago}", "2:32",
                      "the store stands in chicago, where hq does"),
    "route_without_routes": ("route: {provider: edge}", "route: {provider: jobs}", "34:23",
                             "jobs is of kind mq, which has no routes"),
    "criteria_mismatch": ("channel: voice", 'channel: voice\n    criteria_version: "2026-10"',
                          "30:15", "is decided by credit criteria 2026-10, and acme works by none"),
    "criteria_as_number": ("channel: voice", "channel: voice\n    criteria_version: 2026.10",
                           "28:23", "put it in quotes"),
    "data_class": ("channel: voice", "channel: voice\n    data_class: credit", "30:15",
                   "holds credit data, which acme may not see"),
    "runbook_step": ("version: 1", "version: 1\nrunbooks: {mine: {branch: [shift_rout]}}", "2:28",
                     "there is no step kind `shift_rout`; did you mean `shift_route`?"),
    "runbook_step_key": ("version: 1",
                         "version: 1\nrunbooks: {mine: {branch: [{confirm: {dedline: 1m}}]}}",
                         "2:39", "unknown key `dedline`"),
    "increments_fall": ("channel: voice", "channel: voice\n    shift: {increments: [50, 25, 100]}",
                        "28:30", "increments must rise: 25 comes after 50"),
    "increments_short": ("channel: voice", "channel: voice\n    shift: {increments: [50]}",
                         "28:26", "the last increment must be 100, is 50"),
    "licence_field": ("item: {id: uli, state: state}",
                      "item: {id: uli, state: state}\n    licence_field: sate", "42:20",
                      "`sate` is not a field of the item; did you mean `state`?"),
    "site_named_as_treatment": ("acme:\n", "callback:\n", "13:3", "`callback` is a treatment"),
    "trigger_without_subject": ("site.hq.state ==", "dependency.los.state ==",
                                "45:3", "nothing says which site hq_down acts on"),
    "home_that_gives_nothing_back": (
        "backlog: {hq: {provider: jobs}", "backlog: {hq: {provider: jobs, put_only: true}",
        "43:15", "what waits at hq, the home of apps, could never be moved"),
    "assigned_and_delivered": (
        "backlog: {hq: {provider: jobs}", "backlog: {hq: {provider: jobs, assignee: hq}", "43:51",
        "a record delivered to acme would stay assigned to hq and be worked at both"),
    "assigned_in_two_tables": (
        "{hq: {provider: jobs}, acme: {provider: jobs, ref: apps_acme}}",
        "{hq: {provider: jobs, ref: a, assignee: hq}, "
        "acme: {provider: jobs, ref: b, assignee: acme}}",
        "43:59", "assigns records in jobs:a at hq and in jobs:b at acme"),
    "one_assignee_for_two": (
        "{hq: {provider: jobs}, acme: {provider: jobs, ref: apps_acme}}",
        "{hq: {provider: jobs, ref: a, assignee: x}, acme: {provider: jobs, ref: a, assignee: x}}",
        "43:58", "acme and hq have one assignee, `x`"),
    "own_backup": ("backups: [acme]", "backups: [hq]", "29:15", "cannot be its own backup"),
    "duplicate_key": ("home: hq", "home: hq\n    home: acme", "29:5",
                      "`home` is here twice; the first one is in line 28"),
    "tag": ("name: lender", "name: !!python/object/apply:os.system [x]", "2:7",
            "tags are not allowed"),
    "merge_key": ("kind: in_house", "kind: in_house\n    <<: {location: x}", "7:5",
                  "merge keys (`<<`) are not allowed"),
    "key_number": ("staff: {calls", "staff: {10", "12:13", "a key must be text, 10 is not"),
    "key_list": ("staff: {calls", "staff: {[a]", "12:13", "a key must be text"),
    "huge_integer": ("agents: 10", "agents: " + "9" * 5000, "12:29", "has more than 18 digits"),
    "nan": ("per_hour: 100", "per_hour: .nan", "33:22", "is not a number that can be used"),
    "infinity": ("per_hour: 100", "per_hour: -.inf", "33:22", "is not a number"),
    "too_large_a_number": ("per_hour: 100", "per_hour: 1e999", "33:22", "too large"),
    "unknown_alias": ("home: hq", "home: *hq", "28:11", "alias *hq has no anchor before it"),
    "alias_in_itself": ("depends_on: [los]", "depends_on: &a [*a]", "10:21", "stands inside"),
    "escaped_nul": ("location: chicago", 'location: "chi\\0cago"', "7:15",
                    "control characters are not allowed"),
    "unquoted_colon": ("location: chicago", "location: chicago: loop", "7:22", "not valid YAML"),
    "at_sign": ("location: chicago", "location: @chicago", "7:15", "must stand in quotes"),
    "tab": ("    kind: in_house", "\tkind: in_house", "6:1", "a tab cannot indent YAML"),
    "open_bracket": ("backups: [acme]", "backups: [acme", "30:14", "expected ',' or ']'"),
    "open_quote": ("name: lender", 'name: "lender', "8:13", "not valid YAML"),
}

BOMB = "a: &a [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 10)}]\n" for i in range(8))

# Files as bytes: (bytes, place, words of the message).
FILES = {
    "empty": (b"", "1:1", "the policy is empty"),
    "only_comments": (b"# nothing\n\n", "1:1", "the policy is empty"),
    "list_at_top": (b"- a\n- b\n", "1:1", "this is a list"),
    "text_at_top": (b"hello\n", "1:1", "this is a single value"),
    "null_at_top": (b"~\n", "1:1", "this is a single value"),
    "two_documents": (b"version: 1\n---\nversion: 1\n", "2:1", "a second one begins here"),
    "binary": (bytes(range(256)) * 8, "2:118", ""),
    "elf": (b"\x7fELF\x02\x01\x01" + b"\0" * 400, "1", "control characters"),
    "nul": (b"version: 1\nname: a\0b\n", "2:8", "NUL byte (is this a binary file?)"),
    "escape_character": (b"version: 1\nname: \x1b[31mred\n", "2:7", "U+001B"),
    "latin_1": ("version: 1\nname: Zürich\n".encode("latin-1"), "2:8", "0xfc is not UTF-8"),
    "utf_16": ("version: 1\n".encode("utf-16"), "1:1", "save it as UTF-8"),
    "cut_utf_8": (b"version: 1\nname: \xe2\x82", "2:7", "is not UTF-8"),
    "50_mb": (b"a: b\n" * 10_000_000, "1:1", "50,000,000 bytes; 1,048,576 is the most"),
    "yaml_bomb": (BOMB.encode(), "", "aliases expand to more than 200,000 values"),
    "deep_flow": (b"a: " + b"[" * 100_000, "1:67", "nested deeper than 64 levels"),
    "deep_flow_closed": (b"a: " + b"[" * 5000 + b"]" * 5000, "1:67", "nested deeper than 64"),
    "deep_block": (b"".join(b" " * i + b"a:\n" for i in range(500)), "65:65", "nested deeper"),
    "deep_dashes": (b"a:\n" + b"- " * 50_000, "2", "nested deeper than 64 levels"),
    "many_values": (b"a: [" + b"1," * 300_000 + b"1]", "1", "more than 50,000 values"),
    "many_keys": (b"".join(b"k%d: 1\n" % i for i in range(20_000)), "", "unknown key `k0`"),
    "long_line": (b"name: " + b"x" * 1_000_000, "1:7", "must be a name"),
    "bad_directive": (b"%YAML 9\n---\na: 1\n", "1", "not valid YAML"),
    "unknown_escape": (b'name: "\\q"\n', "1", "not valid YAML"),
    "complex_key": (b"? [a, b]\n: 1\n", "1:3", "a key must be text"),
    "percent_only": (b"%", "1", "not valid YAML"),
    "anchors_only": (b"&a " * 1000, "1", "not valid YAML"),
}


def refusal(path: Path, kinds: object, now: int) -> PolicyError:
    with pytest.raises(PolicyError) as caught:
        load(str(path), kinds, now=now)  # type: ignore[arg-type]
    return caught.value


def assert_said(error: PolicyError, path: Path, place: str, words: str) -> None:
    """Some problem stands at `place` (line or line:col) and its sentence holds `words`."""
    lines = [str(problem) for problem in error.problems if problem.is_error]
    wanted = f"{path}:{place}" + (":" if place else "")
    assert any(line.startswith(wanted) and words in line for line in lines), "\n".join(lines[:20])
    for problem in error.problems:
        assert problem.line >= 1
        assert problem.column >= 1
        assert len(problem.message) < 600
    assert error.exit_code == Exit.POLICY
    assert "hunter2" not in "\n".join(error.lines()) + str(error.to_json())


@pytest.mark.parametrize("name", SWAPS)
def test_each_mistake_is_reported_where_it_stands(
    name: str, swapped: Callable[[str, str], str], tmp_path: Path, kinds: object, now: int
) -> None:
    """One thing wrong in a good policy: file, line, column and a sentence that helps."""
    old, new, place, words = SWAPS[name]
    path = tmp_path / "policy.yaml"
    path.write_text(swapped(old, new))
    assert_said(refusal(path, kinds, now), path, place, words)


@pytest.mark.parametrize("name", FILES)
def test_what_is_no_policy_at_all_is_refused(
    name: str, tmp_path: Path, kinds: object, now: int
) -> None:
    """Whatever bytes a file holds, the answer is a PolicyError with a place."""
    raw, place, words = FILES[name]
    path = tmp_path / "policy.yaml"
    path.write_bytes(raw)
    assert_said(refusal(path, kinds, now), path, place, words)


def test_there_are_at_least_sixty() -> None:
    """The table keeps its size."""
    assert len(SWAPS) + len(FILES) >= 60


@pytest.mark.parametrize("kind", ["missing", "directory", "pipe", "device", "unreadable"])
def test_a_path_that_is_no_readable_file(
    kind: str, tmp_path: Path, kinds: object, now: int
) -> None:
    """A pipe that nobody writes to must not hang, a device must not be read without end."""
    path = tmp_path / "policy.yaml"
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "unreadable":
        path = tmp_path / ("a" * 300)
    assert_said(refusal(path, kinds, now), path, "1:1", "the policy")


def test_several_mistakes_are_all_reported_at_once(
    swapped: Callable[[str, str], str], tmp_path: Path, kinds: object, now: int
) -> None:
    """One run tells everything, in the order of the file, each place once."""
    text = swapped("kind: in_house", "kind: inhouse")
    for old, new in (("name: lender", "nmae: lender"), ("depends_on: [los]", "depends_on: [lso]"),
                     ("hold: 60s", "hold: 1 minute"), ("Mo-Fr 08:00-20:00", "Mo-Fr 8-20"),
                     ('site.hq.state == "down"', 'site.hq.stat == "down"'),
                     ("env:TOKEN", "hunter2"), ("provider: edge}", "provider: egde}"),
                     ("channel: voice", "channel: voice\n    channel: voice")):
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "policy.yaml"
    path.write_text(text)
    error = refusal(path, kinds, now)
    for words in ("`nmae`", "lacks `name`", "`inhouse`", "`lso`", "hold must be a duration",
                  "`8-20`", "`site.hq.stat`", "reference to a secret", "`egde`",
                  "`channel` is here twice"):
        assert_said(error, path, "", words)
    places = [(problem.line, problem.column) for problem in error.problems]
    assert places == sorted(places)
    assert len({str(problem) for problem in error.problems}) == len(error.problems)


def test_hostile_files_end_a_process_cleanly(tmp_path: Path) -> None:
    """With the real kinds, from start to end, each ends by itself: no hang, no traceback."""
    program = (
        "import sys\n"
        "from ccfailover.errors import PolicyError\n"
        "from ccfailover.policy.load import load\n"
        "from ccfailover.wiring.kinds import Schemas\n"
        "try:\n    load(sys.argv[1], Schemas(), now=0)\n"
        "except PolicyError as error:\n    print(error.problems[0])\n    sys.exit(3)\n"
    )
    root = Path(__file__).resolve().parents[3]
    for name in ("yaml_bomb", "many_values", "many_keys", "50_mb", "long_line"):
        path = tmp_path / f"{name}.yaml"
        path.write_bytes(FILES[name][0])
        done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=root, timeout=20,
                              capture_output=True, text=True, env={"PYTHONPATH": str(root)})
        assert done.returncode == 3, done.stderr[-2000:]
        assert "Traceback" not in done.stderr
