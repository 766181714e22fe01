"""Workers as processes of their own, on a real PostgreSQL: two tables, a store, DBOS's queue."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from ccfailover.operations.doctor import workers
from ccfailover.operations.status import status
from ccfailover.runtime import SECOND
from ccfailover.transfer.fanout import Token
from tests.servers.postgres import PASSWORD, Postgres
from tests.workers.room import STEP, Room, room

pytestmark = pytest.mark.server("postgres")

DONE = (0, 11)
"""After a death an item may have been in its last step: deleted at the source, and not yet written
down so. Then it is listed as a possible duplicate, since hq's own people may have had it."""


@pytest.fixture(scope="module")
def shared(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """One lender for most tests: its database is made once, and two workers are started once."""
    with room(postgres, tmp_path_factory.mktemp("workers")) as made:
        upgraded = made.say("db", "upgrade")
        assert upgraded.returncode == 0, upgraded.stderr
        made.workers(2)
        yield made


@pytest.fixture
def lender(shared: Room) -> Room:
    """Nothing waits, and nothing has arrived."""
    shared.sql(shared.los, "TRUNCATE waiting")
    shared.sql(shared.bpo, "TRUNCATE arrived, keys")
    return shared


def moved(lender: Room, run: str) -> dict[str, int]:
    return {state.value: count for state, count in lender.desk.store.item_counts(run=run).items()
            if count}


def parts(lender: Room, run: str) -> list[tuple[int, dict[str, object]]]:
    """What workers told of a run's tokens: which process, and what."""
    return [(each.pid, line) for each in lender.processes for line in lender.log(each)
            if line.get("event", "").startswith("token.") and line.get("run") == run]


def test_two_workers_carry_it_and_the_run_makes_sure(lender: Room) -> None:
    """Both take part; the ledger equals the tables; what may not go is looked at once."""
    lender.fill(4000, stay=400)
    run = lender.plan(rate=1500)  # so that the other one has not come too late
    assert lender.carry(run).wait(60) == 0, lender.logs()
    assert lender.counts() == {"waiting": 400, "arrived": 4000, "different": 4000, "keys": 4000}
    assert moved(lender, run) == {"settled": 4000, "left": 400}
    looked = lender.sql(lender.los, "SELECT DISTINCT receives, claimed_until > now() FROM waiting")
    assert looked == [(1, False)]
    told = parts(lender, run)
    assert len({pid for pid, line in told if line["taken"]}) == 2
    assert sum(int(line["taken"]) for _, line in told) == 4400  # type: ignore[call-overload]
    assert not lender.sql(lender.store, "SELECT 1 FROM ccf_dbos.workflow_status "
                                        f"WHERE starts_with(workflow_uuid, '{run}')")


def test_status_and_doctor_say_who_is_alive(lender: Room) -> None:
    """Both workers, by machine and number."""
    alive = status(lender.desk, probe=False).facts["workers"]["alive"]
    assert [name.rpartition(":")[2] for name in alive] == ["1", "2"]
    assert "2 workers alive" in lender.say("status").stdout
    (said,) = workers(lender.desk)
    assert said.said == f"2 alive ({', '.join(alive)})" and said.level == "ok"


def test_a_small_move_is_not_handed_out(lender: Room) -> None:
    """Below a thousand the run is quicker by itself, whoever is alive."""
    lender.fill(900)
    run = lender.plan()
    assert lender.carry(run).wait(60) == 0, lender.logs()
    assert lender.counts()["arrived"] == 900 and not parts(lender, run)


def test_the_rate_is_that_of_all_together(lender: Room) -> None:
    """Two workers and 400 a second: what arrives within any second is that, and a batch or two
    of a tenth of it."""
    lender.fill(1600)
    run = lender.plan(rate=400)
    assert lender.carry(run).wait(60) == 0, lender.logs()
    assert lender.counts()["arrived"] == 1600
    assert len({pid for pid, line in parts(lender, run) if line["taken"]}) == 2
    ((most,),) = lender.sql(lender.bpo, """
        SELECT max(n) FROM (SELECT count(*) OVER (ORDER BY at
            RANGE BETWEEN CURRENT ROW AND INTERVAL '999 milliseconds' FOLLOWING) AS n
        FROM keys) AS seen""")
    assert 300 <= most <= 400 + 2 * 40, most


def test_a_worker_that_is_killed_loses_nothing(lender: Room) -> None:
    """kill -9 in the middle of a part: the other one takes it up, and all arrives once."""
    victim = lender.workers(1)[0]
    lender.fill(3200)
    run = lender.plan(rate=900)
    carrier = lender.carry(run)
    name = lender.log(victim)[0]["worker"]
    lender.until(lambda: lender.sql(
        lender.store, "SELECT 1 FROM ccf_dbos.workflow_status WHERE status = 'PENDING' "
        f"AND executor_id = '{name}'"))
    lender.until(lambda: lender.counts()["arrived"] > 500)
    victim.send_signal(signal.SIGKILL)
    victim.wait(10)
    assert carrier.wait(60) in DONE, lender.logs()
    assert lender.counts() == {"waiting": 0, "arrived": 3200, "different": 3200, "keys": 3200}
    assert moved(lender, run) == {"settled": 3200}
    assert not lender.log(victim)[1:], "it was in the middle of its first part"


def test_a_token_of_an_earlier_holder_moves_nothing(lender: Room) -> None:
    """The fence has risen since it was offered: void, whatever it asks for."""
    lender.fill(1200)
    run = lender.plan()
    fan_out, policy = lender.desk.fan_out, lender.desk.policy
    assert fan_out is not None
    (lease,) = [each for each in lender.desk.store.leases() if each.run == run]
    token = Token(run, STEP, run, lease.fence, "applications", "hq", "acme", policy.sha256, None,
                  500, 10.0)
    fan_out.offer(token.prefix, [token], 0)
    lender.until(lambda: parts(lender, run))
    ((_, line),) = parts(lender, run)
    assert line["event"] == "token.void"
    assert lender.counts()["arrived"] == 0 and not moved(lender, run)
    lender.until(lambda: not fan_out.open(token.prefix))
    fan_out.offer(token.prefix, [token], 0)
    assert not fan_out.open(token.prefix), "an id is offered once"
    assert lender.carry(run).wait(60) == 0, lender.logs()
    assert lender.counts()["arrived"] == 1200


def test_workers_stop_with_the_run_that_they_help(lender: Room) -> None:
    """kill -9 of the run: they do not keep its lease alive, and when that is over they do nothing
    more. Whoever resumes it ends it."""
    lender.fill(9000)
    run = lender.plan(rate=400)
    carrier = lender.carry(run)
    lender.until(lambda: lender.counts()["arrived"] > 500)
    carrier.send_signal(signal.SIGKILL)
    carrier.wait(10)
    killed_at = lender.desk.store.now()
    lender.until(lambda: len([pid for pid, line in parts(lender, run)
                              if line["event"] == "token.void"]) >= 2)
    assert lender.counts()["arrived"] < 9000
    (lease,) = [each for each in lender.desk.store.leases() if each.run == run]
    assert lease.expires_at <= killed_at + 8 * SECOND
    lender.sql(lender.los, "DELETE FROM waiting WHERE claim IS NULL")  # enough was moved
    left = lender.counts()["waiting"]
    arrived = lender.counts()["arrived"]
    assert lender.carry(run).wait(60) in DONE, lender.logs()
    found = lender.counts()
    assert found["waiting"] == 0 and found["arrived"] == found["different"] == found["keys"]
    assert arrived <= found["arrived"] <= arrived + left
    assert moved(lender, run) == {"settled": found["arrived"]}


def test_a_worker_leaves_the_work_of_another_policy_alone(lender: Room) -> None:
    """It never sees such a token; the run, which has no worker of its own, moves all itself. And
    a worker whose policy file is another one now goes, to be started anew."""
    copy = lender.place / "copy.yaml"
    copy.write_text(lender.policy.read_text() + "# another\n")
    copy.chmod(0o600)
    (worker,) = lender.workers(1, "--policy", str(copy))
    assert len(lender.desk.store.at_work()) == 3 and lender.desk.fan_out is not None
    assert lender.desk.fan_out.workers() == 2
    copy.write_text(copy.read_text() + "# and again\n")
    lender.fill(1500)
    run = lender.plan()
    carrier = lender.start("resume", run, "--yes", "--policy", str(copy))
    assert carrier.wait(60) == 0, lender.logs()
    assert lender.counts()["arrived"] == 1500 and not parts(lender, run)
    assert worker.wait(30) == 0
    assert "another one now" in lender.log(worker)[-1]["why"]


def test_a_store_that_is_not_ready_is_refused(lender: Room, postgres: Postgres) -> None:
    """Without the tables for workers, with the command that makes them; no password is shown."""
    worker = lender.start("worker", STORE=postgres.new_database())
    assert worker.wait(30) == 8
    said = lender.logs()
    assert "db upgrade" in said and "Not done: no work was taken" in said
    assert PASSWORD not in said
