"""A login by SSH: whose key the server has to show, and what we show it."""

from __future__ import annotations

import base64
import binascii
import io
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import paramiko

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.providers import Resolve
from ccfailover.providers.directory.sftp import reach

_CONNECT_SECONDS: Final = 5.0
_RSA: Final = ("rsa-sha2-512", "rsa-sha2-256")


@dataclass(frozen=True)
class Address:
    user: str
    host: str
    port: int
    path: str


def address(url: str) -> Address:
    """`sftp://user@host:22/path`; `/~/` leads to the login's own folder. Raises ValueError."""
    parts = urlsplit(url)
    if parts.scheme != "sftp" or not parts.hostname or not parts.username or parts.password:
        raise ValueError("not of the form sftp://user@host:22/path")
    path = unquote(parts.path).rstrip("/")
    path = path.removeprefix("/~/") if path.startswith("/~/") else path or "/"
    return Address(unquote(parts.username), parts.hostname, parts.port or 22,
                   "." if path == "/~" else path)


class Login:
    """Logs in; one object per provider. `host_keys`: lines `type base64`; `known_hosts`: a file.

    Secrets are resolved for each login and kept nowhere."""

    def __init__(self, provider: str, url: str, *, host_keys: Sequence[str],
                 known_hosts: str | None, key: str | None, passphrase: str | None,
                 password: str | None, resolve: Resolve, timeout: float) -> None:
        self._provider, self._url = provider, url
        self._host_keys, self._known_hosts = host_keys, known_hosts
        self._key, self._passphrase, self._password = key, passphrase, password
        self._resolve, self._timeout = resolve, timeout

    def __call__(self) -> paramiko.Transport:
        """Raises Rejected or Unavailable; nothing of the backlog was touched."""
        try:
            where = address(self._url)
        except ValueError as error:
            raise self._rejected(f"the url is {error}") from None
        pinned = self._pinned(where)
        if not pinned:
            raise self._rejected(
                "no host key of the server is known, and an unknown one is never accepted",
                "put the server's key into `host_key`, as its owner gives it to you")
        show = self._secret()
        transport: paramiko.Transport | None = None
        try:
            transport = paramiko.Transport(
                reach(where.host, where.port, min(self._timeout, _CONNECT_SECONDS)))
            transport.banner_timeout = transport.auth_timeout = self._timeout
            transport.handshake_timeout = transport.channel_timeout = self._timeout
            self._ask_for(transport, {key.get_name() for key in pinned})
            transport.start_client(timeout=self._timeout)
            if transport.get_remote_server_key() not in pinned:
                raise self._rejected(
                    "the server shows another host key than the one in the policy",
                    "ask its owner whether the key was changed; until then trust nothing there")
            show(transport, where.user)
            transport.set_keepalive(15)
            kept, transport = transport, None
        except (OSError, EOFError, paramiko.SSHException) as error:
            raise self._understood(error) from None
        finally:
            if transport is not None:
                transport.close()
        return kept

    def _understood(self, error: Exception) -> ProviderError:
        match error:
            case paramiko.AuthenticationException():
                return self._rejected("the server refuses this login",
                                      "check the user, and the key or the password")
            case paramiko.ssh_exception.IncompatiblePeer():
                return self._rejected("the server has no host key of the kind in the policy",
                                      "ask its owner for the keys that it shows")
            case socket.gaierror():
                return self._unavailable("the host's name is not known")
        return self._unavailable(f"there is no connection ({type(error).__name__})")

    def _pinned(self, where: Address) -> list[paramiko.PKey]:
        try:
            found = [_public(line) for line in self._host_keys]
        except ValueError:
            raise self._rejected("`host_key` cannot be read", "type and base64, as in a .pub "
                                 "file: ssh-ed25519 AAAA…") from None
        if self._known_hosts:
            name = where.host if where.port == 22 else f"[{where.host}]:{where.port}"
            try:
                known = paramiko.HostKeys(self._known_hosts).lookup(name)
            except (OSError, ValueError, paramiko.SSHException) as error:
                raise self._rejected(f"`known_hosts` cannot be read ({type(error).__name__})"
                                     ) from None
            found += list(known.values()) if known else []
        return found

    @staticmethod
    def _ask_for(transport: paramiko.Transport, kinds: set[str]) -> None:
        """Only the kinds that are pinned: the server may have keys of others, too."""
        wanted = [each for kind in sorted(kinds) for each in
                  (_RSA if kind == "ssh-rsa" else (kind,))]
        options = transport.get_security_options()
        able = [each for each in options.key_types if each in wanted]
        if able:
            options.key_types = able

    def _secret(self) -> Callable[[paramiko.Transport, str], object]:
        """What is shown to the server, read before a connection is made."""
        if self._key:
            phrase = self._resolve(self._passphrase).strip() if self._passphrase else None
            key = self._private(self._resolve(self._key), phrase)
            return lambda transport, user: transport.auth_publickey(user, key)
        if self._password:
            password = self._resolve(self._password)
            return lambda transport, user: transport.auth_password(user, password)
        raise self._rejected("the policy gives neither a key nor a password")

    def _private(self, text: str, phrase: str | None) -> paramiko.PKey:
        for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
            try:
                return kind.from_private_key(io.StringIO(text + "\n"), phrase)
            except paramiko.PasswordRequiredException:
                raise self._rejected("the private key has a passphrase",
                                     "give it as `passphrase`") from None
            except (paramiko.SSHException, ValueError, IndexError, TypeError, EOFError):
                continue  # another kind of key, or a wrong passphrase
        raise self._rejected("the private key cannot be read",
                             "Ed25519, ECDSA or RSA in OpenSSH's form, and its passphrase")

    def _rejected(self, what: str, hint: str | None = None) -> Rejected:
        return Rejected(what, provider=self._provider, where="connect",
                        not_done="nothing was sent", hint=hint)

    def _unavailable(self, what: str) -> Unavailable:
        return Unavailable(what, in_doubt=False, provider=self._provider, where="connect")


def _public(line: str) -> paramiko.PKey:
    kind, _, rest = line.strip().partition(" ")
    try:
        return paramiko.PKey.from_type_string(kind, base64.b64decode(rest.split()[0],
                                                                     validate=True))
    except (binascii.Error, IndexError, paramiko.SSHException) as error:
        raise ValueError(str(type(error).__name__)) from None
