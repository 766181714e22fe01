"""Where a store may live, and what is said when it cannot be used."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest

from ccfailover.errors import Exit, StoreError
from ccfailover.runtime import SystemRuntime
from ccfailover.store import Store, migrations, open_store
from ccfailover.store.files import file_system_of, path_of, refuse_network
from ccfailover.store.sqlite import SqliteDatabase


def told(caught: pytest.ExceptionInfo[StoreError], *words: str) -> None:
    """The error says what, where, what was not done, and what to do next."""
    error = caught.value
    assert error.exit_code is Exit.UNKNOWN
    assert error.where
    assert error.not_done
    assert error.hint
    text = "\n".join(error.lines())
    for word in words:
        assert word in text, text


@pytest.mark.parametrize(("location", "path"), [
    (":memory:", ":memory:"), ("sqlite:///var/lib/x.db", "/var/lib/x.db"), ("/a/../b.db", "/b.db"),
    ("~/x.db", os.path.realpath(os.path.expanduser("~/x.db"))),
    ("rel.db", os.path.realpath("rel.db")),
])
def test_a_location_names_a_file(location, path):
    """A URL of SQLite, a path, or memory."""
    assert path_of(location) == path


@pytest.mark.parametrize("location", ["", "sqlite://", "mysql://db/x", "https://x", "/tmp/",
                                      "sqlite:///tmp/", "a\0b"])
def test_a_location_that_names_no_file_is_refused(location):
    """Another scheme, or no name at all."""
    with pytest.raises(StoreError) as caught:
        open_store(location, SystemRuntime())
    assert caught.value.hint
    assert caught.value.not_done


def test_file_and_directory_are_for_the_owner_alone(tmp_path):
    """0600 and 0700, also for the log beside it, whatever the umask; a looser file is tightened."""
    path = tmp_path / "a" / "b" / "store.db"
    before = os.umask(0)
    try:
        store = open_store(str(path), SystemRuntime())
        store.set_fact("a", 1, actor="a")
    finally:
        os.umask(before)
    modes = {entry.name: stat.S_IMODE(entry.stat().st_mode) for entry in path.parent.iterdir()}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    store.close()
    path.chmod(0o644)
    open_store(str(path), SystemRuntime()).close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_names_that_a_url_would_mangle_work(tmp_path):
    """Blanks, percent, question mark and hash in the path are part of the path."""
    path = tmp_path / "a b%20c?mode=ro#x" / "store.db"
    store = open_store(f"sqlite://{path}", SystemRuntime())
    store.set_fact("a", 1, actor="a")
    store.close()
    assert path.exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["a b%20c?mode=ro#x"]


MOUNTS = """\
/dev/vda / ext4 rw 0 0
proc /proc proc rw 0 0
nas:/vol /mnt/nas nfs4 rw 0 0
//win/share /mnt/with\\040blank cifs rw 0 0
tmpfs /mnt/nas/local tmpfs rw 0 0
/dev/vdb /mnt/over ext4 rw 0 0
fuse /mnt/over fuse.sshfs rw 0 0
broken
"""


@pytest.mark.parametrize(("path", "found"), [
    ("/var/lib/s.db", ("/", "ext4")), ("/mnt/nas/s.db", ("/mnt/nas", "nfs4")),
    ("/mnt/nasty/s.db", ("/", "ext4")), ("/mnt/with blank/s.db", ("/mnt/with blank", "cifs")),
    ("/mnt/nas/local/s.db", ("/mnt/nas/local", "tmpfs")),
    ("/mnt/over/s.db", ("/mnt/over", "fuse.sshfs")),
])
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(path, found):
    """The longest mount point wins; on one point the later mount."""
    assert file_system_of(path, MOUNTS) == found


def test_network_file_systems_are_refused():
    """NFS, SMB and SSH have locks that nobody can trust; the refusal says which and where."""
    for path, kind in (("/mnt/nas/s.db", "nfs4"), ("/mnt/with blank/s.db", "cifs"),
                       ("/mnt/over/s.db", "fuse.sshfs")):
        with pytest.raises(StoreError) as caught:
            refuse_network(path, MOUNTS)
        told(caught, kind, "local disk")
    refuse_network("/mnt/nas/local/s.db", MOUNTS)
    refuse_network("/var/lib/s.db", MOUNTS)
    refuse_network("/var/lib/s.db", "")


def test_status_does_not_create_a_store(tmp_path):
    """Without `create` a missing or empty store is an error, and nothing appears on disk."""
    path = tmp_path / "none" / "store.db"
    with pytest.raises(StoreError) as caught:
        open_store(str(path), SystemRuntime(), create=False)
    told(caught, "no store here", "ccfailover check")
    assert not path.parent.exists()
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(StoreError) as caught:
        open_store(str(empty), SystemRuntime(), create=False)
    told(caught, "empty")
    assert empty.stat().st_size == 0
    open_store(str(empty), SystemRuntime()).close()
    open_store(str(empty), SystemRuntime(), create=False).close()


def test_what_is_no_regular_file_is_refused(tmp_path):
    """A directory, a pipe (which would hang), a device, a path through a file."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    for path, word in ((tmp_path, "a directory"), (tmp_path / "pipe", "not a regular file"),
                       ("/dev/null", "not a regular file"),
                       (tmp_path / "file" / "store.db", "directory exists"),
                       ("/proc/nonsense/store.db", "cannot be opened")):
        with pytest.raises(StoreError) as caught:
            open_store(str(path), SystemRuntime())
        told(caught, word)


def test_a_dangling_link_is_followed_to_where_it_points(tmp_path):
    """The file is made at the link's aim, so that its log lies beside it."""
    link = tmp_path / "link.db"
    link.symlink_to(tmp_path / "aim" / "store.db")
    open_store(str(link), SystemRuntime()).close()
    assert (tmp_path / "aim" / "store.db").exists()


def test_another_programs_database_is_left_alone(tmp_path):
    """Its tables are not mixed with ours."""
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as other:
        other.execute("CREATE TABLE theirs (a)")
    other.close()
    before = path.read_bytes()
    with pytest.raises(StoreError) as caught:
        open_store(str(path), SystemRuntime())
    told(caught, "another program")
    assert path.read_bytes() == before


def test_a_newer_schema_is_refused(tmp_path):
    """An old ccfailover must not write what a new one will misread."""
    path = tmp_path / "store.db"
    open_store(str(path), SystemRuntime()).close()
    with sqlite3.connect(path) as raw:
        raw.execute(f"PRAGMA user_version={migrations.LATEST + 1}")
    raw.close()
    with pytest.raises(StoreError) as caught:
        open_store(str(path), SystemRuntime())
    told(caught, f"schema {migrations.LATEST + 1}", "newer ccfailover")


def test_every_migration_is_there_and_none_beyond():
    """Numbers 1 to LATEST, each a list of statements."""
    for version in range(1, migrations.LATEST + 1):
        for dialect in ("sqlite", "postgres"):
            assert all(isinstance(sql, str) for sql in migrations.statements(version, dialect))
    with pytest.raises(ModuleNotFoundError):
        migrations.statements(migrations.LATEST + 1, "sqlite")


def filled(path) -> list[str]:
    """A store of some two hundred events, closed; its export."""
    store = open_store(str(path), SystemRuntime())
    for number in range(200):
        store.append("automation", "note", {"number": number, "text": "x" * 200}, actor="a")
    lines = list(store.export())
    store.close()
    return lines


def test_a_file_that_is_no_database_is_told(tmp_path):
    """Text, zeros, or a beginning overwritten: refused, and left as it is."""
    path = tmp_path / "store.db"
    filled(path)
    whole = path.read_bytes()
    for bad in (b"not a database at all" * 100, b"\0" * 4096, b"garbage!" * 12 + whole[96:]):
        path.write_bytes(bad)
        with pytest.raises(StoreError) as caught:
            open_store(str(path), SystemRuntime())
        told(caught, "move it away and keep it")
        assert path.read_bytes() == bad
    path.write_bytes(whole)
    store = open_store(str(path), SystemRuntime())
    assert store.verify() == []
    store.close()


def test_damaged_pages_are_told_and_never_taken_for_data(tmp_path):
    """Noise over any page: either an error, or problems from verify, or the very same data."""
    path = tmp_path / "store.db"
    lines = filled(path)
    whole = path.read_bytes()
    seen_error = seen_problem = 0
    for start in range(4096, len(whole), 4096):
        path.write_bytes(whole[:start] + b"\xa5" * 4096 + whole[start + 4096:])
        try:
            store = open_store(str(path), SystemRuntime(), create=False)
        except StoreError as error:
            assert error.hint
            seen_error += 1
            continue
        problems = store.verify()
        try:
            assert list(store.export()) == lines or problems
        except StoreError as error:
            assert "damaged" in str(error)
            assert problems
            seen_error += 1
        seen_problem += bool(problems)
        store.close()
    assert seen_error
    assert seen_problem


def test_a_cut_off_file_is_told(tmp_path):
    """Half of the file is missing: no page of it is silently taken for empty."""
    path = tmp_path / "store.db"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(StoreError) as caught:
        store = open_store(str(path), SystemRuntime())
        try:
            assert store.verify()
            store.read("automation")
        finally:
            store.close()
    told(caught, "damaged")


class SmallDatabase(SqliteDatabase):
    """A store that may have only so many pages: its disk is full soon."""

    def _connect(self):
        connection = super()._connect()
        connection.execute("PRAGMA max_page_count=60")
        return connection


@pytest.mark.parametrize("memory", [False, True])
def test_a_full_database_loses_nothing_acknowledged(tmp_path, memory, plan_for, person):
    """Each write that returned is there, the one that failed is not, and reading goes on."""
    path = ":memory:" if memory else str(tmp_path / "store.db")
    store = Store(SmallDatabase(path, SystemRuntime()))
    run, lease = store.create_run(plan_for("queue:a"), actor=person("mary"), ttl=3600)
    done = 0
    with pytest.raises(StoreError) as caught:
        while done < 10_000:
            store.append(f"run:{run}", "note", {"text": "x" * 500}, actor="a", lease=lease)
            done += 1
    told(caught, "full", "nothing of it was written", "make room")
    assert store.head(f"run:{run}")[0] == done + 1
    assert store.verify() == []
    if memory:
        store.close()
        return
    store.close()
    again = open_store(path, SystemRuntime())
    assert again.head(f"run:{run}")[0] == done + 1
    again.append(f"run:{run}", "note", {}, actor="a", lease=lease)
    assert again.verify() == []
    again.close()


FILL = """
import sys
from ccfailover.store import open_store
from ccfailover.runtime import SystemRuntime
from ccfailover.errors import StoreError
import resource
if len(sys.argv) > 2:
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
done = 0
try:
    store = open_store(sys.argv[1], SystemRuntime())
    while done < 10000:
        store.append("automation", "note", {"number": done, "text": "x" * 900}, actor="a")
        done += 1
except StoreError as error:
    print(done, "|".join(error.lines()))
"""


@pytest.mark.parametrize("limit", [1, 5_000, 40_000, 100_000, 300_000])
def test_a_limit_on_file_size_loses_nothing_acknowledged(tmp_path, python, limit):
    """The system refuses to let the file grow, at any moment: opening included."""
    path = tmp_path / "store.db"
    done = subprocess.run([*python, "-c", FILL, str(path), str(limit)], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    number, text = done.stdout.split(" ", 1)
    for word in (str(path), "Not done:", "Try:", "disk"):
        assert word in text
    store = open_store(str(path), SystemRuntime())
    held = [record.data["number"] for record in store.read("automation")]
    assert held[: int(number)] == list(range(int(number)))
    assert len(held) <= int(number) + 1, "at most the write whose fate was uncertain"
    store.append("automation", "note", {}, actor="a")
    assert store.verify() == []
    store.close()


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("mount"), reason="needs to mount")
@pytest.mark.parametrize("size", ["4k", "64k", "256k"])
def test_a_full_disk_loses_nothing_acknowledged(tmp_path, python, size):
    """A real file system of a few pages; once there is room again, the store goes on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(disk)],
                          capture_output=True)
    if made.returncode != 0:
        pytest.skip("this system lets nobody mount")
    try:
        path = disk / "store.db"
        done = subprocess.run([*python, "-c", FILL, str(path)], capture_output=True, text=True,
                              timeout=60)
        assert done.returncode == 0, done.stderr
        number, text = done.stdout.split(" ", 1)
        for word in (str(path), "Not done:", "Try:"):
            assert word in text
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        store = open_store(str(path), SystemRuntime())
        held = [record.data["number"] for record in store.read("automation")]
        assert held[: int(number)] == list(range(int(number)))
        assert len(held) <= int(number) + 1
        store.append("automation", "note", {}, actor="a")
        assert store.verify() == []
        store.close()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


READ_ONLY = """
import os, sys, urllib.parse
from ccfailover.store import open_store
from ccfailover.runtime import SystemRuntime
from ccfailover.errors import StoreError
open_store(":memory:", SystemRuntime()).append("automation", "note", {}, actor="a")
if os.geteuid() == 0:  # root may write everywhere; what is needed is loaded by now
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    store = open_store(sys.argv[1], SystemRuntime())
    print("opened", len(store.read("automation")), flush=True)
    store.append("automation", "note", {}, actor="a")
    print("written")
except StoreError as error:
    print("|".join(error.lines()))
"""


@pytest.fixture
def passable():
    """A directory that every user may enter and read, and only we write to."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_a_read_only_file_can_be_read_and_says_so_when_written(passable, python):
    """Another user's store, with the right to read: status works, an append is refused."""
    path = passable / "store.db"
    filled(path)
    keeper = open_store(str(path), SystemRuntime())  # keeps the log's index there, as a run does
    keeper.set_fact("a", 1, actor="a")
    for name in ("store.db", "store.db-wal", "store.db-shm"):
        (passable / name).chmod(0o444)
    if os.geteuid() != 0:
        passable.chmod(0o555)
    done = _as_nobody(python, path)
    passable.chmod(0o755)
    keeper.close()
    opened, error = done.splitlines()
    assert opened == "opened 201"
    for word in ("read-only", str(path), "Try:",
                 "Not done: journal note in automation: nothing of it was written"):
        assert word in error


def test_a_file_one_may_not_even_read_is_told(passable, python):
    """Without any right: what, where and what next, not a traceback."""
    path = passable / "store.db"
    filled(path)
    path.chmod(0o000)
    done = _as_nobody(python, path)
    for word in ("Error:", str(path), "cannot be opened", "Not done:", "Try:"):
        assert word in done


def _as_nobody(python, path) -> str:
    done = subprocess.run([*python, "-c", READ_ONLY, str(path)], capture_output=True, text=True,
                          timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_store_that_stays_locked_is_told(tmp_path):
    """After the time-out: who to look for, and that nothing was written; then all works again."""
    path = str(tmp_path / "store.db")
    one = open_store(path, SystemRuntime())
    two = open_store(path, SystemRuntime(), busy_timeout=0.1)
    with one._db.transaction("hold"):
        with pytest.raises(StoreError) as caught:
            two.append("automation", "note", {}, actor="a")
        told(caught, "locked", "fuser", "nothing of it was written")
    two.append("automation", "note", {}, actor="a")
    assert one.head("automation")[0] == 1
    one.close()
    two.close()


def test_reading_works_while_a_writer_holds_a_transaction(tmp_path, plan_for, person):
    """Status never waits: an open store and one opened just then see the last committed state."""
    path = str(tmp_path / "store.db")
    writer = open_store(path, SystemRuntime())
    reader = open_store(path, SystemRuntime(), busy_timeout=0.1)
    writer.create_run(plan_for("queue:a"), actor=person("mary"), ttl=30)
    with writer._db.transaction("hold") as tx:
        tx.execute("INSERT INTO fact (name, value) VALUES ('half', '1')")
        fresh = open_store(path, SystemRuntime(), create=False, busy_timeout=0.1)
        for store in (reader, fresh, writer):
            assert len(store.leases()) == 1
            assert store.fact("half") is None
        fresh.close()
    assert reader.fact("half") == 1
    reader.close()
    writer.close()


def test_a_reader_cannot_write(tmp_path):
    """The connection that serves reads refuses to change anything."""
    store = open_store(str(tmp_path / "store.db"), SystemRuntime())
    with pytest.raises(StoreError):
        store._db.query("INSERT INTO fact (name, value) VALUES ('a', '1')")
    store.close()


def test_every_commit_is_synced_to_the_disk(tmp_path):
    """FULL, not NORMAL: in WAL mode NORMAL may lose the last commits when the power goes."""
    store = open_store(str(tmp_path / "store.db"), SystemRuntime())
    with store._db.transaction("look") as tx:
        assert tx.execute("PRAGMA synchronous") == [(2,)]
        assert tx.execute("PRAGMA journal_mode") == [("wal",)]
    store.close()


def test_nothing_keeps_the_posix_locks_from_holding(tmp_path, python):
    """Opening the same file twice in one process must not drop the first one's write lock."""
    path = tmp_path / "store.db"
    one = open_store(str(path), SystemRuntime())
    with one._db.transaction("hold"):
        open_store(str(path), SystemRuntime()).close()
        probe = subprocess.run(
            [*python, "-c",
             "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=0.1)\n"
             "try: c.execute('BEGIN IMMEDIATE'); print('got in')\n"
             "except sqlite3.OperationalError as e: print(e)", str(path)],
            capture_output=True, text=True, timeout=60)
        assert "locked" in probe.stdout
    one.close()


def test_importing_the_store_is_light(python):
    """`status` must start fast: none of the heavy libraries, and no module of the model but one."""
    program = (
        "import sys, ccfailover.store\n"
        "print(*sorted(m for m in sys.modules if m.startswith('ccfailover.model.')))\n"
        "print(*sorted({'click', 'rich', 'yaml', 'boto3', 'pycurl', 'jsonschema', 'socket',"
        " 'asyncio', 'subprocess', 'urllib', 'multiprocessing'} & set(sys.modules)))"
    )
    done = subprocess.run([*python, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["ccfailover.model.journal", ""]
