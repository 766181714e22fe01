"""TLS: certificates are checked unless the policy says otherwise."""

from __future__ import annotations

import datetime
import http.server
import ipaddress
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ccfailover.errors import Rejected
from ccfailover.providers.curl import Client


class Ok(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: object) -> None:
        """Quiet."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """An HTTPS server with a certificate that only its own file vouches for: (url, file)."""
    place = tmp_path_factory.mktemp("tls")
    certificate = self_signed(place)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ok)
    httpd.socket = context.wrap_socket(httpd.socket, server_side=True)
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield f"https://127.0.0.1:{httpd.server_address[1]}/", str(certificate)
    httpd.shutdown()
    httpd.server_close()
    thread.join(5)


def self_signed(place: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "switch")])
    now = datetime.datetime.now(datetime.UTC)
    local = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
            .public_key(key.public_key()).serial_number(1)
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(local, critical=False)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(key, hashes.SHA256()))
    file = place / "switch.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
    return file


def get(url: str, ca: str | None, verify: bool = True) -> int:
    client = Client("p", timeout=5, connect_timeout=5, ca=ca, verify=verify)
    try:
        return client.send("GET", url, where="w", writes=True).status
    finally:
        client.close()


def test_an_unknown_certificate_is_rejected(server: tuple[str, str]) -> None:
    """Nothing is sent to a peer that cannot prove who it is; that is permanent, not in doubt."""
    with pytest.raises(Rejected, match="not trusted") as caught:
        get(server[0], None)
    assert caught.value.not_done == "nothing was sent"


def test_the_policy_s_ca_is_trusted(server: tuple[str, str]) -> None:
    """`tls.ca` names whom to trust; `verify: false` trusts anybody."""
    url, ca = server
    assert get(url, ca) == 200
    assert get(url, None, verify=False) == 200


def test_a_missing_ca_file_is_rejected(server: tuple[str, str]) -> None:
    """It never falls back to trusting anybody."""
    with pytest.raises(Rejected):
        get(server[0], "/nonexistent/ca.pem")
