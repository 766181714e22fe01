"""Where a broker is and who we are there, out of an `amqp://` or `amqps://` address."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from ccfailover.errors import Rejected

_EXAMPLE = "amqps://user:password@host:5671/vhost, with %2F for a slash within a part"


@dataclass(frozen=True)
class Address:
    host: str
    port: int
    tls: bool
    vhost: str
    user: str = field(repr=False)
    password: str = field(repr=False)

    @property
    def shown(self) -> str:
        """Without credentials."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'amqps' if self.tls else 'amqp'}://{host}:{self.port}"


def understood(url: str, provider: str) -> Address:
    """Raises Rejected; whatever could not be understood may be half of a password, so that none
    of it is shown."""

    def wrong(what: str) -> Rejected:
        return Rejected(what, provider=provider, where="connect", not_done="nothing was sent",
                        hint=_EXAMPLE)

    try:
        parts = urlsplit(url)
        port = parts.port
        host, user, secret = parts.hostname, parts.username, parts.password
    except ValueError:
        raise wrong("the address of the broker cannot be understood") from None
    if parts.scheme not in ("amqp", "amqps") or not host or "@" in parts.path:
        raise wrong("the address of the broker cannot be understood")
    if parts.query or parts.fragment:
        raise wrong("the address of the broker has settings behind it, which are not understood; "
                    "`ca`, `timeout` and the like are keys of the provider")
    if "/" in parts.path[1:]:
        raise wrong("the vhost in the address of the broker has a slash that is not written %2F")
    tls = parts.scheme == "amqps"
    # RabbitMQ's own defaults, which it lets in from its own machine only.
    return Address(host=host, port=port or (5671 if tls else 5672), tls=tls,
                   vhost=unquote(parts.path[1:]) or "/",
                   user=unquote(user) if user else "guest",
                   password=unquote(secret) if secret is not None else "guest")
