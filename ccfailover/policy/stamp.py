"""Remembers that exactly this policy was valid, so that it need not be held to its schema again.

A stamp is an empty file named by a hash in a folder that only its owner can use. Whatever goes
wrong with it means "not stamped", never an error: the policy is then validated. There are two:
`digest` lets verbs that only look pass, `strict` those that act (docs/adr/0010).
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress

from ccfailover import __version__

KEEP = 64
"""Stamps kept; the oldest go first."""


JUDGES = ("jsonschema", "cel_expr_python", "opening_hours_py", "PyYAML")
"""Distributions whose word a stamp repeats: without knowing their versions there is none."""


def digest(policy_sha256: str, *, extra: str = "") -> str:
    """Over policy, schema and version; `extra` is for whatever else validity hangs on."""
    # importlib.resources would cost `status` 8 ms.
    with open(os.path.join(os.path.dirname(__file__), "schema.json"), "rb") as schema:
        shape = hashlib.sha256(schema.read()).hexdigest()
    parts = (policy_sha256, shape, __version__, extra)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def strict(policy_sha256: str, schemas: str) -> str | None:
    """Over all that could make a second validation come out otherwise; `schemas` are the kinds'.

    Beside `digest`: the schemas of the kinds that the policy names, the code that validates, every
    distribution that is installed, and Python. None where one of these cannot be told.
    """
    code, installed = _code(), _installed()
    if code is None or installed is None:
        return None
    extra = "\n".join(("strict", sys.version, code, installed, schemas))
    return digest(policy_sha256, extra=extra)


def _code() -> str | None:
    """Size and time of every file of this package: enough to see an edit or an upgrade."""
    try:
        with os.scandir(os.path.dirname(__file__)) as entries:
            files = [(entry.name, entry.stat()) for entry in entries if entry.is_file()]
    except OSError:
        return None
    return "\n".join(sorted(f"{name} {at.st_size} {at.st_mtime_ns}" for name, at in files))


def _installed() -> str | None:
    """The names of all distributions' metadata, which hold their versions.

    `importlib.metadata` says the same and costs a start as much as reading the policy does.
    """
    found: set[str] = set()
    for place in sys.path:
        try:
            found.update(name for name in os.listdir(place or ".")
                         if name.endswith((".dist-info", ".egg-info")))
        except OSError:
            continue  # a place that is no folder holds no metadata that could be read here
    names = {name.partition("-")[0].lower() for name in found}
    if not all(judge.lower() in names for judge in JUDGES):
        return None
    return "\n".join(sorted(found))


def folder(environ: Mapping[str, str]) -> str | None:
    """Where stamps are kept; None when the environment names no absolute place."""
    base = environ.get("XDG_CACHE_HOME") or ""
    if not os.path.isabs(base):
        home = environ.get("HOME") or ""
        base = os.path.join(home, ".cache")
    return os.path.join(base, "ccfailover", "valid") if os.path.isabs(base) else None


def is_stamped(stamp: str, environ: Mapping[str, str]) -> bool:
    place = folder(environ)
    if place is None or not _is_ours(place):
        return False
    try:
        found = os.lstat(os.path.join(place, stamp))
    except (OSError, ValueError):
        return False
    return (stat.S_ISREG(found.st_mode) and found.st_uid == os.getuid()
            and stat.S_IMODE(found.st_mode) == 0o600)


def put(stamp: str, environ: Mapping[str, str]) -> bool:
    """Whether the stamp could be left; no error when not."""
    place = folder(environ)
    if place is None:
        return False
    try:
        os.makedirs(os.path.dirname(place), exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(place, 0o700)
        if not _is_ours(place):
            return False
        os.close(os.open(os.path.join(place, stamp),
                         os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
        _prune(place)
    except OSError:
        return False
    return True


def _is_ours(place: str) -> bool:
    """A folder of another user, or one that others can write to, could hold forged stamps."""
    try:
        found = os.lstat(place)
    except OSError:
        return False
    return (stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
            and not stat.S_IMODE(found.st_mode) & 0o077)


def _prune(place: str) -> None:
    names = [os.path.join(place, name) for name in os.listdir(place)]
    if len(names) > KEEP:
        names.sort(key=lambda name: os.lstat(name).st_mtime)
        for name in names[:-KEEP]:
            os.unlink(name)
