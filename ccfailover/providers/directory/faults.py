"""An OSError as one of ours. Only errno's own words are shown: a server's text may say anything."""

from __future__ import annotations

import errno
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.providers.directory.files import TooMany

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_BUSY: Final = frozenset({errno.EAGAIN, errno.EBUSY, errno.EMFILE, errno.ENFILE, errno.EINTR,
                          errno.ENOMEM, errno.ENOLCK})
_RIGHTS: Final = frozenset({errno.EACCES, errno.EPERM})
_UNABLE: Final = frozenset({errno.ENOTSUP, errno.ENOSYS, errno.EXDEV})
ROOM_SECONDS: Final = 30.0
BUSY_SECONDS: Final = 1.0


class Failed(OSError):
    """An SFTP server's "failure", which says no more than that it was not done."""


def as_provider_error(error: OSError | TooMany, provider: str, where: str, *,
                      writes: bool) -> ProviderError:
    """Rejected when the same call will fail again, Unavailable when it may not.

    `writes`: when no answer came, it may have been done."""
    def rejected(what: str, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=provider, where=where, hint=hint)

    def unavailable(what: str, *, doubt: bool = False, after: float | None = None,
                    hint: str | None = None) -> Unavailable:
        return Unavailable(what, in_doubt=doubt, provider=provider, where=where,
                           retry_after=after, hint=hint)

    if isinstance(error, TooMany):
        return rejected("there is more in the folder than can be read",
                        "move aside what is done")
    if isinstance(error, TimeoutError | ConnectionError):
        said = "no answer in time" if isinstance(error, TimeoutError) else "the connection is lost"
        return unavailable(said, doubt=writes)
    if isinstance(error, Failed):
        return unavailable("the server did not do it, and does not say why", after=BUSY_SECONDS,
                           hint="is there room, below the quota, and is it mounted for writing?")
    code = error.errno or 0
    if code in _NO_ROOM:
        return unavailable("there is no room left, or the quota is used up", after=ROOM_SECONDS,
                           hint="make room where the folder is")
    if code in _BUSY:
        return unavailable(f"it cannot be done now ({errno.errorcode[code]})", after=BUSY_SECONDS)
    if code == errno.EROFS:
        return rejected("the folder is mounted read-only", "mount it for writing")
    if code in _RIGHTS:
        return rejected("this login has no right to do it",
                        "ccfailover providers list says which rights it needs")
    if code == errno.ENOENT:
        return rejected("there is no such folder", "compare the lever's `ref` with the server; "
                        "the folder of a backlog is made by its owner, what is in it by us")
    if code in (errno.ENOTDIR, errno.ELOOP):
        return rejected("a part of the path is no folder", "no symbolic link is followed")
    if code in _UNABLE:
        return rejected("the file server cannot do this", "it needs renames within the folder, "
                        "and symbolic links as marks")
    return unavailable(f"it failed ({errno.errorcode.get(code, 'no code')})", doubt=writes)
