"""What the documents tell of the kind: an example, the least rights, and what surprises."""

from __future__ import annotations

from typing import Final

from ccfailover.providers.examples import of_backlogs

EXAMPLE: Final = of_backlogs("""\
  inbox: {kind: directory, path: /srv/intake}
  drop:
    kind: directory
    url: "sftp://lender@sftp.acme.example:22/drop"
    key: "file:/etc/ccfailover/acme_ed25519"
    known_hosts: /etc/ccfailover/known_hosts
""", """\
      hq:   {provider: inbox, ref: applications}
      acme: {provider: drop, ref: applications, acknowledge: written}
""")

RIGHTS: Final = """\
chgrp outsourcer /srv/intake/applications
chmod 2770 /srv/intake/applications        # the set-group-ID bit: both work on the same files
# By SFTP: a login whose folder this is, and nothing else (ChrootDirectory, ForceCommand
# internal-sftp). To list and to read is enough for check and providers test.
"""

TRAPS: Final = (
    "The folder (`incoming`, `claimed`, `working`, `.ccf`) is one file system, whose renames "
    "are in one step and whose symbolic links can be made once only; `check_writable` and the "
    "first delivery try it out. OpenSSH has both; object stores behind an SFTP front have "
    "neither and are refused.",
    "Never delete `.ccf/keys` (some hundred bytes a delivery): with it goes the memory of "
    "what was delivered. Marks of runs longer past than any that may be resumed can be "
    "removed by age.",
    "Claims end by the file server's clock, learned from a file that was just written there; "
    "hosts may be hours off. SFTP tells whole seconds, so a claim may last two seconds "
    "longer, and never less.",
    "Nothing happens in a folder by itself: after a crash, claimed files come back with the "
    "next claim of any process, not before. `status` and `check` already count them as "
    "waiting.",
    "Over SFTP a file's content is on disk (fsync) before its batch appears, where the server "
    "offers that (OpenSSH does); the order of names then rests on its journaling file system.",
    "A share that does not answer (NFS, mounted `hard`) holds a call for as long as the "
    "kernel waits. Mount it `soft` with a time-out, or use SFTP.",
    "`timeout` is for each answer of the server; a batch is made of several calls for each "
    "item, and takes longer when all of them are slow.",
    "A protocol-3 server says \"failure\" for a full disk, a quota and a read-only mount alike.",
    "Every file takes some calls: 4 of them go side by side, so 50 ms of distance make about "
    "15 items a second.",
)
