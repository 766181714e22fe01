"""Files as a backlog: what is peculiar to folders, here and behind a real OpenSSH server. What
every backlog owes is in tests/conformance."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.model.items import Acknowledged, WorkItem
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog
from ccfailover.providers.directory import DirectoryProvider
from ccfailover.providers.directory.faults import Failed, as_provider_error
from ccfailover.runtime import SECOND, SystemRuntime
from ccfailover.store import open_store
from ccfailover.transfer.eligibility import CelEligibility
from ccfailover.transfer.mover import Mover, MoveResult
from tests.servers import dropper
from tests.servers.drops import batches, drop_batch
from tests.servers.sshd import Sshd
from tests.unit.transfer.world import queue, site

DROPPER = Path(dropper.__file__)


class AnotherClock(SystemRuntime):
    """A host whose clock is off by so many seconds."""

    def __init__(self, off: float) -> None:
        self._off = off

    def now(self) -> int:
        return super().now() + int(self._off * SECOND)


class Drop:
    def __init__(self, root: Path) -> None:
        self.root, self.ref = root, root / "loans"
        self.ref.mkdir()

    def backlog(self, ref: str = "loans", runtime: SystemRuntime | None = None,
                **params: object) -> Backlog:
        provider = DirectoryProvider(ProviderSpec("drop", "directory", {"path": str(self.root)}),
                                     resolve=str, runtime=runtime or SystemRuntime())
        return provider.backlog(LeverSpec("drop", ref, {"item": {"id": "uli"}, **params}))

    def put(self, *names: str, **params: object) -> Any:
        return self.backlog(**params).put([item(name) for name in names],
                                          keys={name: f"{name}:r1:1" for name in names})

    def manifest(self, batch: Path | None = None) -> Any:
        [found] = [batch] if batch else (self.ref / "incoming").iterdir()
        return json.loads((found / "manifest.json").read_bytes())


@pytest.fixture
def drop(tmp_path: Path) -> Drop:
    return Drop(tmp_path)


def item(name: str, body: bytes | None = None, **more: Any) -> WorkItem:
    return WorkItem(name, "m", body or f'{{"uli": "{name}"}}'.encode(), {}, "", **more)


# --- deliveries ----------------------------------------------------------------------------------


def test_a_batch_is_a_folder_with_a_manifest(drop: Drop) -> None:
    """Every file is listed with id, key, checksum, size, time and hops; dates lead the names."""
    sent = [item("a", submitted="2026-03-02", hops=1),
            item("b", submitted="2026-03-01T09:30:00-06:00"),
            item("c", attributes={"branch": "0417"})]
    results = drop.backlog().put(sent, keys={"a": "ka", "b": "kb", "c": "kc"})
    said = drop.manifest()
    assert (said["format"], said["count"]) == ("ccfailover-drop/1", 3)
    assert [(line["id"], line["key"], line["submitted"], line["hops"], line["attributes"])
            for line in said["items"]] == [
        ("a", "ka", "2026-03-02", 1, {}), ("b", "kb", "2026-03-01T09:30:00-06:00", 0, {}),
        ("c", "kc", None, 0, {"branch": "0417"})]
    for line, each, result in zip(said["items"], sent, results, strict=True):
        body = (drop.ref / "incoming" / said["batch"] / line["file"]).read_bytes()
        assert body == each.body and line["bytes"] == len(body)
        assert line["sha256"] == hashlib.sha256(body).hexdigest()
        assert result.target_ref == f"{said['batch']}/{line['file']}"
    assert [path.name.partition("-")[0] for path in batches(drop.ref)] == [
        "20260301T153000Z", "20260302T000000Z", "undated"]


def test_a_key_outlives_its_file_and_its_folder(drop: Drop) -> None:
    """Whoever works the item takes it away with all of its batch; the key is swallowed still."""
    drop.put("a", "b")
    [batch] = (drop.ref / "incoming").iterdir()
    for path in batch.iterdir():
        path.unlink()
    batch.rmdir()
    assert all(result.ok for result in drop.put("b", "a"))
    assert not batches(drop.ref)
    assert all(result.ok for result in drop.put("b", "c"))
    assert [line["id"] for line in drop.manifest()["items"]] == ["c"]


def test_a_key_that_is_twice_in_a_batch_makes_one_file(drop: Drop) -> None:
    results = drop.backlog().put([item("a"), item("a"), item("b")], keys={"a": "k", "b": "l"})
    assert [result.ok for result in results] == [True, True, True]
    assert len(batches(drop.ref)) == 2


def test_two_that_put_the_same_keys_at_once_deliver_each_once(drop: Drop) -> None:
    """In whatever order they meet each other's marks: nothing twice, and in the end nothing
    missing."""
    names = [f"a{number}" for number in range(24)]

    def work(seed: int) -> None:
        order = random.Random(seed)
        target = drop.backlog()
        missing = set(names)
        while missing:
            batch = order.sample(sorted(missing), min(5, len(missing)))
            results = target.put([item(name) for name in batch],
                                 keys={name: f"k{name}" for name in batch})
            missing -= {result.item_id for result in results if result.ok}

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    found = [json.loads(path.read_bytes())["uli"] for path in batches(drop.ref)]
    assert sorted(found) == sorted(names)
    assert not list((drop.ref / ".ccf/staging").iterdir())


def test_what_a_dead_writer_left_undecided_never_appears(drop: Drop) -> None:
    """Its key is free again, for whoever delivers the item next; the dead one's rename fails."""
    drop.put("warm")
    staged = drop.ref / ".ccf/staging/20260301T000000Z-dead"
    staged.mkdir()
    (staged / "half.json").write_text("{")
    mark = next((drop.ref / ".ccf/keys").glob("*/*"))
    digest = hashlib.sha256(b"a:r1:1").hexdigest()
    shard = mark.parent.parent / digest[0]
    shard.mkdir(exist_ok=True)
    (shard / f"{digest}.1").symlink_to(staged.name)
    assert [result.ok for result in drop.put("a")] == [True]
    assert not staged.exists()
    assert not list((drop.ref / ".ccf/abandoned" / staged.name).iterdir())
    assert len(batches(drop.ref)) == 2


def killed_at_random(command: list[str], seed: int, times: int) -> int:
    """Runs the program again and again, killed each time a little later; then to its end."""
    chance, kills = random.Random(seed), 0
    for turn in range(times + 1):
        process = subprocess.Popen([sys.executable, str(DROPPER), *command],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert process.stdout is not None and process.stdout.readline() == b"begun\n"
        if turn < times:
            time.sleep(chance.random() * 0.012 * (turn + 1))
            process.kill()
        _, errors = process.communicate(timeout=60)
        if process.returncode == 0:
            break
        assert process.returncode == -9, errors.decode()
        kills += 1
    return kills


def whole(ref: Path) -> list[str]:
    """The items in sight, each of a batch that is complete and as its manifest says."""
    found = []
    for batch in (path for path in (ref / "incoming").iterdir() if path.is_dir()):
        said = json.loads((batch / "manifest.json").read_bytes())
        for line in said["items"]:
            body = (batch / line["file"]).read_bytes()
            assert hashlib.sha256(body).hexdigest() == line["sha256"]
            found.append(line["id"])
        assert len(list(batch.iterdir())) == said["count"] + 1
    return found


def test_a_writer_killed_again_and_again_delivers_each_once(drop: Drop) -> None:
    """kill -9 at random points: no half batch is ever seen, nothing comes twice or not at all."""
    kills = killed_at_random(["put", str(drop.root), "loans", "120"], 7, 12)
    assert kills >= 3
    assert sorted(whole(drop.ref)) == sorted(f"U{number}" for number in range(120))


def test_a_mover_killed_again_and_again_moves_each_once(drop: Drop) -> None:
    """The same for claims: what a killed one held comes back, and is moved by the next."""
    other = drop.root / "acme"
    other.mkdir()
    drop_batch(drop.ref, [f'{{"uli": "U{number}"}}'.encode() for number in range(60)])
    kills = killed_at_random(["move", str(drop.root), "loans", "acme"], 11, 10)
    assert kills >= 3
    assert sorted(whole(other)) == sorted(f"U{number}" for number in range(60))
    assert not batches(drop.ref) and not list((drop.ref / "claimed").iterdir())


# --- claims --------------------------------------------------------------------------------------


def test_the_nearest_deadline_is_claimed_first(drop: Drop) -> None:
    """By the dates in the files' names, over all batches; what has none comes last."""
    target = drop.backlog()
    for name, submitted in (("a", None), ("b", "2026-03-02"), ("c", "2026-03-01")):
        target.put([item(name, submitted=submitted)], keys={name: name})
    assert [each.item_id for turn in range(3) for each in drop.backlog().claim(1)] == [
        "c", "b", "a"]


def test_two_that_claim_at_once_never_get_the_same(drop: Drop) -> None:
    for start in range(0, 60, 20):
        drop_batch(drop.ref, [f'{{"uli": "a{start + n}"}}'.encode() for n in range(20)])
    taken: list[list[str]] = [[] for _ in range(4)]

    def work(number: int) -> None:
        backlog = drop.backlog()
        while backlog.measure().visible:
            taken[number] += [each.item_id for each in backlog.claim(7)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(taken))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(name for names in taken for name in names) == sorted(
        f"a{number}" for number in range(60))


def test_a_claim_that_has_ended_deletes_nothing(drop: Drop) -> None:
    """Settling late is False; the next claim counts one more, and only its handle is good."""
    drop_batch(drop.ref, [b'{"uli": "a"}'])
    backlog = drop.backlog(claim_seconds=0.2)
    [first] = backlog.claim(1)
    until(lambda: backlog.measure().visible == 1)
    assert backlog.settle([first.handle]) == {first.handle: False}
    assert backlog.extend([first.handle], 60) == {first.handle: False}
    found: list[WorkItem] = []
    # Each asks the file server for its clock, which ticks in steps of some milliseconds.
    until(lambda: bool(found) or found.extend(drop.backlog().claim(1)) or bool(found))
    [second] = found
    assert second.handle != first.handle and second.receives == 2
    assert backlog.settle([first.handle, second.handle]) == {
        first.handle: False, second.handle: True}
    assert drop.backlog().measure().depth == 0


def test_another_process_can_give_back_and_settle(drop: Drop) -> None:
    """A handle out of the ledger is enough, also after the claim was extended."""
    drop_batch(drop.ref, [b'{"uli": "a"}', b'{"uli": "b"}'])
    first = drop.backlog()
    handles = [each.handle for each in first.claim(2)]
    first.extend(handles, 300)
    assert drop.backlog().settle(handles[:1]) == {handles[0]: True}
    assert drop.backlog().extend(handles[1:], 0) == {handles[1]: True}
    assert [path.name for path in batches(drop.ref)] == ["000001.json~1"]


def test_claims_end_by_the_file_servers_clock(drop: Drop) -> None:
    """A host whose own clock is two hours ahead takes nobody's claim, nor does one behind."""
    drop_batch(drop.ref, [b'{"uli": "a"}', b'{"uli": "b"}'])
    [held] = drop.backlog(runtime=AnotherClock(-7200)).claim(1)
    ahead = drop.backlog(runtime=AnotherClock(7200))
    assert {each.item_id for each in ahead.claim(10)} == {"a", "b"} - {held.item_id}
    assert not ahead.claim(10) and not drop.backlog().claim(10)


def test_what_people_have_begun_is_left_to_them(drop: Drop) -> None:
    """A file in `working`, or with a lock beside it, is counted and never claimed."""
    batch = drop_batch(drop.ref, [f'{{"uli": "{name}"}}'.encode() for name in "abc"])
    (drop.ref / "working/desk4").mkdir(parents=True)
    (batch / "000000.json").rename(drop.ref / "working/desk4/000000.json")
    (batch / "000001.json.lock").write_text("maria")
    backlog = drop.backlog()
    assert [each.item_id for each in backlog.claim(10)] == ["c"]
    assert (backlog.measure().visible, backlog.measure().hidden) == (0, 3)


def test_an_empty_batch_is_tidied_away_and_an_item_can_come_back(drop: Drop) -> None:
    """An hour after its last file went; a claim of it finds its manifest all the same."""
    drop.put("a")
    [batch] = (drop.ref / "incoming").iterdir()
    holder = drop.backlog()
    [held] = holder.claim(1)
    os.utime(batch, (time.time() - 7200,) * 2)
    assert not drop.backlog().claim(1)
    assert not batch.exists()
    assert holder.extend([held.handle], 0) == {held.handle: True}
    [again] = drop.backlog().claim(1)
    assert (again.item_id, again.problem, again.receives) == ("a", None, 2)


# --- what is not as it should be -----------------------------------------------------------------


def flipped(batch: Path) -> None:
    (batch / "000000.json").write_bytes(b'{"uli": "b"}')


def rewritten(**said: Any) -> Callable[[Path], None]:
    def act(batch: Path) -> None:
        whole = json.loads((batch / "manifest.json").read_bytes())
        (batch / "manifest.json").write_text(json.dumps({**whole, **said}))
    return act


def moved_out(batch: Path) -> None:
    (batch / "000000.json").rename(batch.parent / "000000.json")


PROBLEMS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another checksum": (flipped, "its SHA-256 is not the one in the manifest"),
    "no manifest": (lambda batch: (batch / "manifest.json").unlink(), "has no manifest"),
    "garbage": (lambda batch: (batch / "manifest.json").write_bytes(b"\xff"), "not UTF-8"),
    "a link": (lambda batch: ((batch / "manifest.json").rename(batch / ".real"),
                              (batch / "manifest.json").symlink_to(".real")),
               "is no regular file"),
    "a wrong count": (rewritten(count=2), "the count is not that of the items"),
    "not listed": (rewritten(items=[], count=0), "does not list it"),
    "a way out": (rewritten(items=[{"file": "../../x", "sha256": "0" * 64}]),
                  "no usable file name"),
    "no checksum": (rewritten(items=[{"file": "000000.json"}]), "no SHA-256"),
    "in no batch": (moved_out, "it lies in no batch"),
}


@pytest.mark.parametrize("how", PROBLEMS)
def test_what_differs_from_its_manifest_is_a_problem(drop: Drop, how: str) -> None:
    """It has no id, so that nobody moves it; it can be given back."""
    spoil, words = PROBLEMS[how]
    spoil(drop_batch(drop.ref, [b'{"uli": "a"}']))
    backlog = drop.backlog()
    [found] = backlog.claim(1)
    assert found.item_id == "" and found.problem is not None and words in found.problem
    assert backlog.extend([found.handle], 0) == {found.handle: True}
    assert backlog.measure().visible == 1


def test_a_huge_file_is_not_read(drop: Drop) -> None:
    batch = drop_batch(drop.ref, [b"{}"])
    with (batch / "000000.json").open("wb") as file:
        file.truncate(40 * 2**30)
    [found] = drop.backlog(max_item_bytes=1000).claim(1)
    assert found.body == b"" and found.problem is not None and "bytes or more" in found.problem


def test_links_pipes_and_odd_names_are_harmless(drop: Drop, tmp_path: Path) -> None:
    """Nothing outside the folder is read, moved or waited for; what is there is counted."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.json").write_text('{"uli": "stolen"}')
    batch = drop_batch(drop.ref, [b'{"uli": "a"}'])
    (batch / "link.json").symlink_to(outside / "secret.json")
    (batch / "name with spaces.json").write_text("{}")
    (batch / "late.json.part").write_text("{")
    (batch / ".hidden").write_text("{")
    os.mkfifo(batch / "pipe.json")
    (drop.ref / "incoming/elsewhere").symlink_to(outside)
    backlog = drop.backlog()
    assert [each.item_id for each in backlog.claim(10)] == ["a"]
    assert (backlog.measure().visible, backlog.measure().hidden) == (0, 5)
    assert [path.name for path in outside.iterdir()] == ["secret.json"]


def test_a_link_in_place_of_our_own_folder_is_not_followed(drop: Drop, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (drop.ref / "claimed").symlink_to(outside)
    drop_batch(drop.ref, [b'{"uli": "a"}'])
    with pytest.raises(Rejected, match="no folder"):
        drop.backlog().claim(1)
    assert not list(outside.iterdir()) and len(batches(drop.ref)) == 1


def test_a_tampered_mark_is_refused(drop: Drop) -> None:
    drop.put("a")
    [mark] = (drop.ref / ".ccf/keys").glob("*/*")
    mark.unlink()
    mark.symlink_to("../../../../etc")
    [result] = drop.put("a")
    assert not result.ok and not result.in_doubt and "tampered" in result.detail


ERRORS: list[tuple[OSError, bool, type[ProviderError], bool]] = [
    (OSError(errno.ENOSPC, ""), True, Unavailable, False),
    (OSError(errno.EDQUOT, ""), True, Unavailable, False),
    (OSError(errno.EROFS, ""), True, Rejected, False),
    (PermissionError(errno.EACCES, ""), True, Rejected, False),
    (FileNotFoundError(errno.ENOENT, ""), True, Rejected, False),
    (OSError(errno.ELOOP, ""), True, Rejected, False),
    (OSError(errno.ENOTSUP, ""), True, Rejected, False),
    (OSError(errno.EIO, ""), True, Unavailable, True),
    (OSError(errno.EIO, ""), False, Unavailable, False),
    (TimeoutError(), True, Unavailable, True),
    (ConnectionResetError(), False, Unavailable, False),
    (Failed("secret text"), True, Unavailable, False),
]


@pytest.mark.parametrize(("error", "writes", "kind", "doubt"), ERRORS)
def test_each_error_says_what_to_do(error: OSError, writes: bool, kind: type[ProviderError],
                                    doubt: bool) -> None:
    found = as_provider_error(error, "drop", "loans put", writes=writes)
    assert type(found) is kind and "secret" not in str(found)
    assert getattr(found, "in_doubt", False) == doubt


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize(("options", "words", "kind"), [
    ("size=64k", "no room", Unavailable), ("ro", "read-only", Rejected)])
def test_a_full_and_a_read_only_disk(tmp_path: Path, options: str, words: str,
                                     kind: type[ProviderError]) -> None:
    """A real file system of 64 KiB, and one that nobody may write to: nothing half is left."""
    root = tmp_path / "disk"
    root.mkdir()
    small = options.replace("ro", "size=1m")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", small, "none", str(root)],
                      capture_output=True).returncode:
        pytest.skip("this root may not mount")
    try:
        drop = Drop(root)
        if options == "ro":
            subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
        big = [item(f"a{n}", b'{"uli": "a"}' + b" " * 20_000) for n in range(9)]
        results = drop.backlog().put(big, keys={each.item_id: each.item_id for each in big})
        assert all(not each.ok and not each.in_doubt and words in each.detail
                   for each in results)
        assert not batches(drop.ref)
        with pytest.raises(kind) if options == "ro" else pytest.raises(AssertionError):
            assert not drop.backlog().check_writable()
        if options != "ro":
            assert [each.ok for each in drop.put("small")] == [True]
    finally:
        subprocess.run(["umount", str(root)], check=True)


def test_there_and_back_by_the_mover(drop: Drop) -> None:
    """A whole move with its ledger, batches of two hundred; what was begun there stays there, the
    rest comes home, and what is no application stays with its reason."""
    (drop.root / "acme").mkdir()
    drop_batch(drop.ref, [*(json.dumps({"uli": f"U{n}", "state": "TX"}).encode()
                            for n in range(300)), b"nonsense"])
    runtime = SystemRuntime()
    provider = DirectoryProvider(ProviderSpec("drop", "directory", {"path": str(drop.root)}),
                                 resolve=str, runtime=runtime)
    policy = queue(item={"id": "uli", "state": "state"}, licence_field="state")
    store = open_store(":memory:", runtime)

    def move(source: str, target: str, run: str) -> MoveResult:
        params = {"item": policy.item, "claim_seconds": 20}
        levers = [LeverSpec("drop", "loans" if name == "hq" else name, params)
                  for name in (source, target)]
        place = site(target, licences={"TX": None})
        return Mover(provider.backlog(levers[0]), provider.backlog(levers[1]), store=store,
                     lease=None, run=run, step="s", queue=policy, source_site=source,
                     target_site=place, eligibility=CelEligibility(policy, place, runtime),
                     runtime=runtime, batch=200, patience=0.1,
                     target_capabilities=provider.capabilities({}),
                     ).run(runtime.monotonic() + 60)

    there = move("hq", "acme", "r1")
    assert (there.moved, there.possible_duplicates) == (300, 0)
    assert sorted(whole(drop.root / "acme")) == sorted(f"U{n}" for n in range(300))
    begun = batches(drop.root / "acme")[0]
    begun.rename(drop.root / "acme/working" / begun.name)
    back = move("acme", "hq", "r2")
    assert back.moved == 299
    found = [path.read_bytes() for path in batches(drop.ref)]
    assert found.count(b"nonsense") == 1 and len(set(found)) == len(found) == 300
    assert not batches(drop.root / "acme")


# --- acknowledgements ----------------------------------------------------------------------------


def acknowledge(drop: Drop, name: str, **said: Any) -> None:
    batch = drop.manifest()["batch"]
    (drop.ref / "acks" / f"{batch}.{name}.json").write_text(json.dumps({
        "format": "ccfailover-ack/1", "batch": batch, **said}))


def states(drop: Drop, *names: str) -> dict[str, tuple[str, str]]:
    found = drop.backlog().receipts([f"{name}:r1:1" for name in names])
    assert found is not None
    return {key.partition(":")[0]: (each.state.value, each.reason)
            for key, each in found.items()}


def test_acknowledgements_item_by_item(drop: Drop) -> None:
    """Accepted with our checksum, rejected with a code, another checksum, and silence."""
    drop.put("a", "b", "c", "d")
    lines = {line["id"]: line for line in drop.manifest()["items"]}

    def ack(name: str, status: str, **more: object) -> dict[str, object]:
        return {"file": lines[name]["file"], "sha256": lines[name]["sha256"],
                "status": status, **more}

    acknowledge(drop, "1", items=[
        ack("a", "accepted"), ack("b", "rejected", reason="wrong_state"),
        ack("c", "accepted", sha256="0" * 64), {"file": "../x", "status": "accepted"}, 7])
    assert states(drop, "a", "b", "c", "d", "never") == {
        "a": ("accepted", ""), "b": ("rejected", "wrong_state"),
        "c": ("rejected", "the checksum echoed is not the one sent"), "d": ("waiting", "")}
    acknowledge(drop, "2", items=[ack("b", "accepted"),
                                  ack("d", "rejected", reason="Maria Perez, SSN 123")])
    assert states(drop, "b", "d") == {
        "b": ("rejected", "wrong_state"), "d": ("rejected", "no reason was given as a code")}


def test_a_whole_batch_is_acknowledged_by_its_manifest(drop: Drop) -> None:
    """Also when the receiver has taken all of it away; half an acknowledgement is none."""
    drop.put("a", "b")
    batch = drop.manifest()["batch"]
    digest = hashlib.sha256(
        (drop.ref / "incoming" / batch / "manifest.json").read_bytes()).hexdigest()
    (drop.ref / "acks" / f"{batch}.json").write_text('{"format": "ccf')
    assert states(drop, "a") == {"a": ("waiting", "")}
    acknowledge(drop, "all", status="accepted", manifest_sha256=digest)
    (drop.ref / "incoming" / batch).rename(drop.root / "taken")
    assert states(drop, "a", "b") == {"a": ("accepted", ""), "b": ("accepted", "")}


def test_a_delivery_can_wait_for_its_acknowledgement(drop: Drop) -> None:
    """`acknowledge: accepted`: in doubt while nothing is said; the same key again asks again."""
    how = {"acknowledge": "accepted", "acknowledge_within": 0.1}
    [silent] = drop.put("a", **how)
    assert (silent.ok, silent.in_doubt) == (False, True)
    line = drop.manifest()["items"][0]
    said = {"file": line["file"], "sha256": line["sha256"], "status": "accepted"}
    threading.Timer(0.1, acknowledge, (drop, "late"), {"items": [said]}).start()
    [heard] = drop.put("a", acknowledge="accepted", acknowledge_within=20)
    assert heard.ok and len(batches(drop.ref)) == 1
    acknowledge(drop, "later", items=[{**said, "status": "rejected", "reason": "duplicate"}])
    [refused] = drop.put("a", **how)
    assert (refused.ok, refused.permanent, refused.in_doubt) == (False, True, False)
    assert refused.detail.endswith("duplicate")
    assert Acknowledged("rejected") is Acknowledged.REJECTED


# --- policy, and SFTP ----------------------------------------------------------------------------

HOST_KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA"


@pytest.mark.parametrize("params", [
    {}, {"path": "relative"}, {"url": "sftp://u@h/drop"}, {"path": "/srv", "url": "sftp://u@h/d"},
    {"url": "sftp://u:secret@h/drop", "host_key": HOST_KEY},
    {"url": "sftp://u@h/drop", "host_key": HOST_KEY, "password": "plain"},
    {"url": "sftp://u@h/drop", "host_key": "SHA256:abc"}])
def test_a_policy_without_what_it_takes_is_refused(params: dict[str, object]) -> None:
    """Neither without a pinned host key nor with a secret in it."""
    jsonschema.validate({"path": "/srv/drop"}, DirectoryProvider.PARAMS)
    jsonschema.validate({"url": "sftp://u@h:22/~/drop", "host_key": HOST_KEY},
                        DirectoryProvider.PARAMS)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(params, DirectoryProvider.PARAMS)


@pytest.mark.parametrize("ref", ["../up", "a/../b", "/abs", ".ccf", "a//b", "a/", "", "a b"])
def test_a_ref_leads_nowhere_else(ref: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"ref": ref}, DirectoryProvider.LEVER)


def test_a_missing_root_is_no_missing_folder(drop: Drop) -> None:
    """Not mounted is transient; a folder that nobody made is a mistake in the policy."""
    with pytest.raises(Rejected, match="no such folder"):
        drop.backlog("nonesuch").claim(1)
    drop.ref.rmdir()
    drop.root.rmdir()
    with pytest.raises(Unavailable, match="mounted"):
        drop.backlog().measure()
    drop.root.mkdir()


@pytest.fixture
def remote(sshd: Sshd) -> Iterator[Callable[..., DirectoryProvider]]:
    """A provider at the real server; what it is given stands instead of what is right."""
    made: list[DirectoryProvider] = []
    (sshd.drop / "logins").mkdir(exist_ok=True)

    def make(secret: str | None = None, **params: object) -> DirectoryProvider:
        block = {"url": f"sftp://{sshd.user}@127.0.0.1:{sshd.port}{sshd.drop}",
                 "key": "file:key", "host_key": sshd.host_key, "timeout": 5, **params}
        made.append(DirectoryProvider(
            ProviderSpec("drop", "directory",
                         {name: value for name, value in block.items() if value is not None}),
            resolve=lambda reference: secret or sshd.key.read_text(), runtime=SystemRuntime()))
        return made[-1]

    yield make
    for provider in made:
        provider.close()


def measure(provider: DirectoryProvider) -> int:
    return provider.backlog(LeverSpec("drop", "logins")).measure().depth


@pytest.mark.server("sshd")
def test_an_unknown_host_key_is_never_accepted(
        remote: Callable[..., DirectoryProvider], sshd: Sshd, tmp_path: Path) -> None:
    """Neither another key than the pinned one, nor a server of which none is known."""
    with pytest.raises(Rejected, match="another host key"):
        measure(remote(host_key=sshd.other_host_key))
    known = tmp_path / "known_hosts"
    known.write_text(f"sftp.example {sshd.host_key}\n")
    with pytest.raises(Rejected, match="no host key of the server is known"):
        measure(remote(host_key=None, known_hosts=str(known)))
    known.write_text(f"[127.0.0.1]:{sshd.port} {sshd.host_key}\n")
    assert measure(remote(host_key=None, known_hosts=str(known))) == 0
    assert measure(remote(host_key=[sshd.other_host_key, sshd.host_key])) == 0


@pytest.mark.server("sshd")
def test_a_refused_login_shows_no_secret(
        remote: Callable[..., DirectoryProvider], sshd: Sshd) -> None:
    """A key that the server does not know, one that is none, and a wrong password."""
    for params, secret in (({}, sshd.other_key.read_text()), ({}, "s3cret-no-key"),
                           ({"key": None, "password": "env:P"}, "s3cret-no-key"),
                           ({"key": None}, "s3cret-no-key")):
        provider = remote(secret, **params)
        with pytest.raises(Rejected) as caught:
            measure(provider)
        shown = f"{caught.value} {caught.value.to_json()} {provider!r} {vars(provider)!r}"
        assert "s3cret" not in shown and "PRIVATE" not in shown and caught.value.hint != ""


@pytest.mark.server("sshd")
def test_a_server_that_was_away_is_connected_to_again(
        remote: Callable[..., DirectoryProvider], sshd: Sshd) -> None:
    """While it is away calls fail as Unavailable; then the same object goes on."""
    provider = remote()
    assert measure(provider) == 0
    sshd.stop()
    try:
        provider.close()
        with pytest.raises(Unavailable):
            measure(provider)
    finally:
        sshd.start()
    assert measure(provider) == 0


@pytest.mark.server("sshd")
def test_links_and_huge_files_are_harmless_by_sftp(
        remote: Callable[..., DirectoryProvider], sshd: Sshd, tmp_path: Path) -> None:
    ref = sshd.drop / "hostile"
    ref.mkdir(exist_ok=True)
    batch = drop_batch(ref, [b'{"uli": "a"}', b"{}"])
    with (batch / "000001.json").open("wb") as file:
        file.truncate(40 * 2**30)
    (batch / "link.json").symlink_to(tmp_path / "secret")
    os.mkfifo(batch / "pipe.json")
    backlog = remote().backlog(LeverSpec("drop", "hostile", {"item": {"id": "uli"}}))
    found = sorted(backlog.claim(10), key=lambda each: each.message_id)
    assert [(each.item_id, bool(each.problem)) for each in found] == [("a", False), ("", True)]
    assert (backlog.measure().visible, backlog.measure().hidden) == (0, 4)


def until(fn: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not fn():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.02)
