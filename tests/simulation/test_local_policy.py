"""The policy that a local centre writes for itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from ccfailover.model.policy import LeverSpec, Policy
from ccfailover.model.shares import Shares
from ccfailover.policy.load import check
from ccfailover.providers import Provider
from ccfailover.runtime import SystemRuntime
from ccfailover.simulation.applications import generate
from ccfailover.simulation.local import CentreSettings, LocalCentre
from ccfailover.wiring.kinds import Schemas, provider_class

pytestmark = pytest.mark.server("roto-server")
RUNTIME = SystemRuntime()


@pytest.fixture(scope="module")
def quiet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCentre]:
    settings = CentreSettings(contacts_per_second=0, consumers="closed", separate_queues=True)
    # A directory whose name needs quoting in YAML.
    with LocalCentre(tmp_path_factory.mktemp("it's a # \"centre\": x"), settings) as running:
        yield running


def loaded(centre: LocalCentre, **options: object) -> Policy:
    path = centre.directory / "policy.yaml"
    path.write_text(centre.policy_text(**options), encoding="utf-8")  # type: ignore[arg-type]
    policy, problems = check(str(path), Schemas(), now=RUNTIME.now())
    assert policy is not None, [str(problem) for problem in problems]
    assert not [problem for problem in problems if problem.is_error]
    return policy


def provider(policy: Policy, lever: LeverSpec) -> Provider:
    spec = policy.providers[lever.provider]
    return provider_class(spec.kind)(
        spec, resolve=lambda ref: Path(ref.removeprefix("file:")).read_text(), runtime=RUNTIME)


def test_it_is_valid_and_says_what_the_demo_needs(quiet: LocalCentre) -> None:
    """No error; the home falls back to acme and callback, applications to acme by licence."""
    policy = loaded(quiet, licences=["TX", "OK"], store=quiet.directory / "elsewhere.db")
    calls, applications = policy.queues["loan_calls"], policy.queues["applications"]
    assert (calls.home, calls.backups, calls.home_down) == ("hq", ("acme",), "callback")
    assert set(applications.backlogs) == set(applications.consumers) == {"hq", "acme"}
    assert applications.eligible == "item.state in target.licences"
    assert set(policy.sites["acme"].licences or ()) == {"TX", "OK"}
    assert len({probe.observer for probe in policy.sites["hq"].probes}) == 2
    assert set(policy.triggers) == {"hq_down", "overflow"}
    assert policy.store is not None and policy.store.endswith("elsewhere.db")


def test_its_levers_move_this_centre(quiet: LocalCentre) -> None:
    """Routes, intake, gates and backlogs named in it answer to the real adapters."""
    policy = loaded(quiet)
    calls, applications = policy.queues["loan_calls"], policy.queues["applications"]
    assert calls.route is not None and applications.intake is not None
    with closing(provider(policy, calls.route)) as edge:
        route = edge.route(calls.route)
        aim = Shares({"hq": 25, "acme": 50, "callback": 25})
        route.shift(aim, expected=route.read(), key="r1/calls")
        assert route.read().shares == aim
        assert quiet.get("switch", "/routes/loan_calls")["shares"] == dict(aim)
        assert {"offered", "lost", "answered.hq", "answered.acme"} <= set(route.measure())
    with closing(provider(policy, applications.intake)) as edge:
        intake = edge.route(applications.intake)
        intake.shift(Shares({"acme": 100}), expected=intake.read(), key="r1/intake")
        assert quiet.get("switch", "/routes/applications")["shares"] == {"acme": 100}
    for site, lever in applications.consumers.items():
        with closing(provider(policy, lever)) as desk:
            gate = desk.gate(lever)
            assert gate.is_open() is False
            gate.set_open(True, key="r1/gate")
            assert quiet.get(site, "/consumers")["open"] is True
            gate.set_open(False, key="r1/gate")
            assert gate.is_open() is False


def test_its_backlogs_carry_applications_from_site_to_site(quiet: LocalCentre) -> None:
    """What was seeded at hq is claimed, put at acme, and understood there."""
    rows = list(generate(8, 1))
    quiet.seed(rows)
    policy = loaded(quiet)
    queue = policy.queues["applications"]
    levers = {site: replace(lever, params={**lever.params, "item": dict(queue.item)})
              for site, lever in queue.backlogs.items()}
    with closing(provider(policy, levers["hq"])) as home, \
            closing(provider(policy, levers["acme"])) as away:
        source, target = home.backlog(levers["hq"]), away.backlog(levers["acme"])
        assert (source.measure().depth, target.measure().depth) == (8, 0)
        items = source.claim(10)
        assert {item.item_id for item in items} == {row["uli"] for row in rows}
        results = target.put(items, keys={item.item_id: f"{item.item_id}:r1:0" for item in items})
        assert all(result.ok for result in results)
        assert all(source.settle([item.handle for item in items]).values())
    assert (quiet.depth("hq"), quiet.depth("acme")) == ((0, 0), (8, 0))
