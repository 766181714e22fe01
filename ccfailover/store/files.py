"""Where the store may live: parsing the location, and refusing file systems that cannot lock."""

from __future__ import annotations

import os
import re
import stat

from ccfailover.errors import StoreError

MEMORY = ":memory:"

NETWORK_FILE_SYSTEMS = frozenset({
    "9p", "afs", "beegfs", "ceph", "cifs", "coda", "davfs", "gfs", "gfs2", "glusterfs", "gpfs",
    "lustre", "ncpfs", "nfs", "nfs3", "nfs4", "ocfs2", "orangefs", "panfs", "pvfs2", "smb2",
    "smb3", "smbfs", "vboxsf", "vmhgfs",
    "fuse.ceph", "fuse.davfs2", "fuse.gcsfuse", "fuse.glusterfs", "fuse.goofys", "fuse.mfs",
    "fuse.rclone", "fuse.s3fs", "fuse.sshfs", "fuse.vmhgfs-fuse", "fuse.mount-s3", "fuse.blobfuse",
})
"""Types (third column of /proc/mounts) on which locks or shared memory of SQLite cannot be
trusted: two controllers could both believe that they own a run."""

_OCTAL = re.compile(r"\\([0-7]{3})")


def path_of(location: str) -> str:
    """The file that `sqlite:///abs/path`, a plain path or `:memory:` names.

    Raises StoreError for anything else (another scheme, an empty name).
    """
    if location == MEMORY:
        return MEMORY
    path = location
    scheme, separator, rest = location.partition("://")
    if separator:
        if scheme != "sqlite":
            raise StoreError(
                f"a store cannot be of the kind {scheme!r}", not_done="no store was opened",
                hint="give sqlite:///absolute/path or the path of a file",
            )
        path = rest
    if not path or path.endswith("/") or "\0" in path:
        raise StoreError(
            f"{location!r} names no file for the store", not_done="no store was opened",
            hint="give sqlite:///absolute/path or the path of a file",
        )
    return os.path.realpath(os.path.expanduser(path))


def file_system_of(path: str, mounts: str) -> tuple[str, str] | None:
    """(mount point, type) of the file system that holds `path`, an absolute real path.

    `mounts` is the text of /proc/mounts; of two mounts on one point the later one counts, as
    it does for the kernel. None when no line fits.
    """
    best: tuple[str, str] | None = None
    for line in mounts.splitlines():
        parts = line.split(" ")
        if len(parts) < 3:
            continue
        point = _OCTAL.sub(lambda found: chr(int(found[1], 8)), parts[1])
        inside = point == "/" or path == point or path.startswith(point + "/")
        if inside and (best is None or len(point) >= len(best[0])):
            best = (point, parts[2])
    return best


def refuse_network(path: str, mounts: str) -> None:
    """Raises StoreError when `path` lies on a network file system, according to `mounts`."""
    found = file_system_of(path, mounts)
    if found is not None and found[1].lower() in NETWORK_FILE_SYSTEMS:
        raise StoreError(
            f"the store would lie on a network file system ({found[1]}, mounted at {found[0]}), "
            "where locks cannot be trusted",
            where=path, not_done="the store was not opened",
            hint="put the store on a local disk of the machine that runs ccfailover",
        )


def read_mounts() -> str:
    """/proc/mounts, or "" on a system without it (nothing can be said there)."""
    try:
        with open("/proc/mounts", encoding="utf-8", errors="surrogateescape") as file:
            return file.read(4 * 1024 * 1024)
    except OSError:
        return ""


def prepare(path: str, *, create: bool) -> None:
    """See to it that `path` is a regular file on a local file system.

    Creates the missing file (mode 0600) and its directory (0700) when `create` is set, and
    takes rights from group and others where an existing file of ours gives them some.
    Raises StoreError.
    """
    refuse_network(path, read_mounts())
    try:
        if not os.path.lexists(path):
            if not create:
                raise StoreError(
                    "there is no store here yet", where=path, not_done="nothing was read",
                    hint="check the policy's `store`, or run the first check: ccfailover check",
                )
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            _create(path)
        about = os.stat(path)
        if not stat.S_ISREG(about.st_mode):
            kind = "a directory" if stat.S_ISDIR(about.st_mode) else "not a regular file"
            raise StoreError(
                f"{kind}, where the store's file should be", where=path,
                not_done="no store was opened",
                hint="give the path of a file, such as " + os.path.join(path, "store.db")
                if stat.S_ISDIR(about.st_mode) else "give the path of a file",
            )
        if about.st_mode & 0o077 and about.st_uid == os.geteuid():
            os.chmod(path, 0o600)
    except OSError as error:
        raise StoreError(
            f"cannot be opened: {error.strerror or error}", where=path,
            not_done="no store was opened",
            hint="see that the directory exists and that this user may write to it",
        ) from error


def _create(path: str) -> None:
    # Exclusive: closing a second descriptor of an open store would drop SQLite's POSIX locks.
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return  # another process was faster; its file is as good as ours
