"""Base URLs taken apart, Retry-After, and what a status means."""

from __future__ import annotations

import pytest

from ccfailover.errors import Rejected, Unavailable
from ccfailover.providers.curl import (
    Changed,
    Client,
    Reply,
    Request,
    check_status,
    origin,
    retry_after,
)
from tests.servers.twilio import Twilio

NOW = 1_700_000_000 * 1_000_000  # 2023-11-14T22:13:20Z


def test_a_login_never_shows() -> None:
    """User and password leave the URL; only the request carries them."""
    found = origin("https://us%40er:p%40ss@switch.example:8443/api/")
    assert found.url == found.shown == "https://switch.example:8443/api"
    assert found.login == ("us@er", "p@ss")
    assert "p@ss" not in repr(found) and "us@er" not in repr(found)


def test_a_secret_url_shows_no_path() -> None:
    """A URL that came from a secret may have the secret in its path."""
    found = origin("https://hooks.example/T0/s3cr3t", secret=True)
    assert found.shown == "https://hooks.example"
    assert found.url.endswith("s3cr3t")


def test_an_ipv6_host_keeps_its_brackets() -> None:
    """Loopback by IPv6 works as any host."""
    assert origin("http://[::1]:80/x").url == "http://[::1]:80/x"


@pytest.mark.parametrize("url", [
    "", "ftp://x/", "file:///etc/passwd", "http://", "http://x/?token=s3cr3t", "http://x:99999/",
    "http://[::1", "x", "http://s3cr3t.höst/", "http://host/s3cr3t\0",
])
def test_a_bad_url_is_an_error_that_does_not_quote_it(url: str) -> None:
    """What cannot be a base URL is refused without showing what may be a secret in it."""
    with pytest.raises(ValueError) as caught:
        origin(url)
    assert "s3cr3t" not in str(caught.value)


@pytest.mark.parametrize("value, wanted", [
    ("7", 7.0), ("0", 0.0), ("999999", 3600.0), ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
    ("Tue, 14 Nov 2023 22:00:00 GMT", 0.0), ("soon", None), ("", None), ("-5", None),
    ("9" * 400, None), ("٣", None),
])
def test_retry_after_is_seconds_within_an_hour(value: str, wanted: float | None) -> None:
    """Numbers and dates are understood, anything else is as if absent."""
    assert retry_after({"retry-after": value}, lambda: NOW) == wanted


@pytest.mark.parametrize("status, kind, doubt", [
    (400, Rejected, None), (401, Rejected, None), (404, Rejected, None), (409, Changed, None),
    (412, Changed, None), (302, Rejected, None), (0, Rejected, None), (422, Rejected, None),
    (408, Unavailable, True), (425, Unavailable, False), (429, Unavailable, False),
    (500, Unavailable, True), (502, Unavailable, True), (503, Unavailable, True),
])
def test_what_a_status_means_for_a_write(status: int, kind: type, doubt: bool | None) -> None:
    """Permanent or transient, and whether a write may have landed."""
    with pytest.raises(kind) as caught:
        check_status(Reply(status, {"retry-after": "4"}, b""), provider="p", where="w",
                     writes=True, now=lambda: NOW, not_done="nothing")
    assert type(caught.value) is kind
    assert str(status) in str(caught.value)
    if doubt is not None:
        assert caught.value.in_doubt is doubt
        assert caught.value.retry_after == 4.0
    else:
        assert caught.value.not_done == "nothing"


def test_a_read_is_never_in_doubt() -> None:
    """In doubt means that something may have changed; reading changes nothing."""
    with pytest.raises(Unavailable) as caught:
        check_status(Reply(503, {}, b""), provider="p", where="w", writes=False, now=lambda: NOW)
    assert not caught.value.in_doubt


def test_a_refused_connection_is_no_doubt() -> None:
    """Nobody listens: nothing was sent, and the error shows no query. Closing twice is fine."""
    client = Client("p", timeout=5, connect_timeout=5)
    with pytest.raises(Unavailable) as caught:
        client.send("PUT", "http://127.0.0.1:1/x?token=s3cr3t", where="w", writes=True, body=b"")
    assert not caught.value.in_doubt
    assert "s3cr3t" not in str(caught.value)
    client.close()
    client.close()


def test_signals_break_no_exchange() -> None:
    """^C and timers come in while replies are waited for; each exchange still has its outcome."""
    import signal
    import socket

    heard: list[int] = []
    before = signal.signal(signal.SIGALRM, lambda number, frame: heard.append(number))
    client = Client("p", timeout=0.4, connect_timeout=0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        request = Request("POST", f"http://127.0.0.1:{silent.getsockname()[1]}/", "w", True,
                          body=b"x", once=True)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)
        try:
            outcomes = dict(client.send_all([request] * 3, 2))
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)
    client.close()
    assert heard
    assert sorted(outcomes) == [0, 1, 2]
    assert all(isinstance(one, Unavailable) and one.in_doubt for one in outcomes.values())


def test_an_abandoned_set_of_exchanges_is_closed() -> None:
    """Who stops asking leaves nothing running, and the next set starts afresh."""
    import socket

    client = Client("p", timeout=0.4, connect_timeout=0.4)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        dead = Request("POST", "http://127.0.0.1:1/", "w", True, body=b"x")
        mute = Request("POST", f"http://127.0.0.1:{port}/", "w", True, body=b"x")
        outcomes = client.send_all([dead, mute], 2)
        index, outcome = next(outcomes)
        assert index == 0 and isinstance(outcome, Unavailable) and not outcome.in_doubt
        outcomes.close()  # type: ignore[attr-defined]
        assert [index for index, _ in client.send_all([dead, dead], 1)] == [0, 1]
    client.close()


def test_a_login_may_have_any_letter(twilio: Twilio) -> None:
    """In UTF-8 (RFC 7617); a NUL, which no header can have, is refused before anything is sent."""
    client = Client("x", timeout=5, connect_timeout=5)
    url = f"http://127.0.0.1:{twilio.port}/"
    reply = client.send("GET", url, where="x", writes=False, login=("ü", "pä"))
    assert 400 <= reply.status < 500
    with pytest.raises(Rejected, match="NUL") as caught:
        client.send("GET", url, where="x", writes=False, login=("u", "s3cr3t\0"))
    assert caught.value.not_done == "nothing was sent"
    assert "s3cr3t" not in str(caught.value)
