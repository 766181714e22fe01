"""Files dropped for an outsourcer, with manifests, checksums and acknowledgements: a folder of
this machine, or one of a server that speaks SFTP.

    providers:
      drop: {kind: directory, url: "sftp://lender@sftp.acme.example/drop",
             key: "file:/etc/ccfailover/acme_key", host_key: "ssh-ed25519 AAAA…"}
    queues:
      applications:
        backlog: {acme: {provider: drop, ref: applications}, …}

`layout` says what is called how, `sending` how no item comes twice, `holding` how claims work.
paramiko is imported on first use.
"""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import ClassVar, Final

from ccfailover.errors import Rejected
from ccfailover.model.capabilities import Capabilities
from ccfailover.model.policy import LeverSpec, ProviderSpec
from ccfailover.providers import Backlog, Provider, Resolve
from ccfailover.providers.directory.about import EXAMPLE, RIGHTS, TRAPS
from ccfailover.providers.directory.backlog import BATCH, MAX_ITEM_BYTES, DirectoryBacklog
from ccfailover.providers.directory.files import Files
from ccfailover.providers.directory.layout import PART
from ccfailover.providers.directory.local import LocalFiles
from ccfailover.providers.params import DURATION, REFERENCE, text
from ccfailover.runtime import Runtime

_HOST_KEY: Final[Mapping[str, object]] = {
    "type": "string", "pattern": "^(ssh-|ecdsa-)[a-z0-9-]+ [A-Za-z0-9+/=]+( .*)?$",
    "maxLength": 4000,
}


class DirectoryProvider(Provider):
    kind: ClassVar[str] = "directory"
    TIMEOUT: ClassVar[float] = 15.0
    summary: ClassVar[str] = "files in a folder, local or by SFTP, with manifests: backlogs"
    EXAMPLE: ClassVar[str] = EXAMPLE
    RIGHTS: ClassVar[str] = RIGHTS
    TRAPS: ClassVar[tuple[str, ...]] = TRAPS
    PARAMS: ClassVar[Mapping[str, object]] = {
        "type": "object", "additionalProperties": False,
        "properties": {
            "path": {"type": "string", "pattern": "^/", "maxLength": 1000,
                     "description": "a folder of this machine, or one that is mounted here"},
            "url": {"type": "string", "pattern": "^sftp://[^/@:\\s]+@[^/@\\s]+(/[^\\s?#]*)?$",
                    "maxLength": 1000,
                    "description": "sftp://user@host:22/folder; /~/ is the login's own folder"},
            "key": {**REFERENCE, "description": "a reference to the login's private key"},
            "passphrase": {**REFERENCE, "description": "a reference to the key's passphrase"},
            "password": {**REFERENCE, "description": "a reference to the login's password"},
            "host_key": {
                "anyOf": [_HOST_KEY, {"type": "array", "items": _HOST_KEY, "minItems": 1}],
                "description": "the server's public key (or keys): ssh-ed25519 AAAA…",
            },
            "known_hosts": {"type": "string", "pattern": "^/",
                            "description": "a file of host keys, as OpenSSH keeps one"},
            "timeout": DURATION,
        },
        "x-message": "needs either `path`, or `url` with `host_key` or `known_hosts`",
        "oneOf": [
            {"required": ["path"], "not": {"required": ["url"]}},
            {"required": ["url"], "not": {"required": ["path"]},
             "anyOf": [{"required": ["host_key"]}, {"required": ["known_hosts"]}]},
        ],
    }
    LEVER: ClassVar[Mapping[str, object]] = {
        "type": "object", "required": ["ref"], "additionalProperties": False,
        "properties": {
            "ref": {"type": "string", "pattern": f"^{PART}*(/{PART}*)*$", "maxLength": 400,
                    "description": "the backlog's own folder, below the provider's"},
            "claim_seconds": {
                **DURATION,
                "description": "how long a claimed item stays hidden from the site's own people",
            },
            "max_receives": {
                "type": "integer", "minimum": 1, "maximum": 9000,
                "description": "claims after which an item is left alone",
            },
            "acknowledge": {
                "enum": ["written", "accepted"],
                "description": "when an item counts as delivered: when it is there (default), or "
                               "when the receiver has acknowledged it",
            },
            "acknowledge_within": {
                **DURATION,
                "description": "how long a delivery waits for acknowledgements (default 30s); "
                               "well below the source's claim_seconds",
            },
        },
    }

    def __init__(self, spec: ProviderSpec, *, resolve: Resolve, runtime: Runtime) -> None:
        super().__init__(spec, resolve=resolve, runtime=runtime)
        self._open: Files | None = None
        self._lock = Lock()

    @classmethod
    def capabilities(
        cls, params: Mapping[str, object], lever: Mapping[str, object] | None = None
    ) -> Capabilities:
        return Capabilities(
            backlogs=True, idempotent_put=True, max_item_bytes=MAX_ITEM_BYTES, max_batch=BATCH,
            # A batch appears whole; but it is settled file by file.
            transactional=False,
            deadline_first="by the dates in the files' names, over the whole folder as it was at "
                           "most half a minute ago",
            rights=("list, read, make, rename and remove files and folders in the backlog's "
                    "folder", "make symbolic links there (marks that lead nowhere)"),
        )

    def backlog(self, lever: LeverSpec) -> Backlog:
        return DirectoryBacklog(self.name, lever, self._connect, self.runtime)

    def close(self) -> None:
        with self._lock:
            files, self._open = self._open, None
        if files is not None:
            files.close()

    def _connect(self) -> Files:
        """Made once; a connection is opened when something is asked, and again when it was lost."""
        with self._lock:
            if self._open is None:
                self._open = self._files()
            return self._open

    def _files(self) -> Files:
        params = self.spec.params
        if "path" in params:
            return LocalFiles(text(params["path"]))
        try:
            from ccfailover.providers.directory.login import Login, address
            from ccfailover.providers.directory.sftp import SftpFiles
        except ImportError as error:
            raise Rejected(f"a folder by SFTP needs paramiko ({error})", provider=self.name,
                           where="connect", not_done="nothing was sent",
                           hint="pip install 'ccfailover[sftp]'") from error

        url, pinned = text(params.get("url")), params.get("host_key")
        lines = [pinned] if isinstance(pinned, str) else pinned
        try:
            root = address(url).path
        except ValueError as error:
            raise Rejected(f"the url is {error}", provider=self.name, where="connect",
                           not_done="nothing was sent") from None
        login = Login(
            self.name, url,
            host_keys=[text(each) for each in lines] if isinstance(lines, list) else [],
            known_hosts=text(params.get("known_hosts")) or None,
            key=text(params.get("key")) or None,
            passphrase=text(params.get("passphrase")) or None,
            password=text(params.get("password")) or None,
            resolve=self.resolve, timeout=self.call_seconds)
        return SftpFiles(root, login, self.runtime, timeout=self.call_seconds)
