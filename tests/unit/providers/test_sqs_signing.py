"""Our signatures beside botocore's own, on random requests."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from ccfailover.providers.sqs.signing import CONTENT_TYPE, Endpoint, Keys, Signer

WORDS = st.text("ABCDEFabcdef0123456789/+=", min_size=1, max_size=60)
HOSTS = st.sampled_from([
    "https://sqs.us-east-1.amazonaws.com/", "https://sqs.us-east-1.amazonaws.com",
    "http://127.0.0.1:4566/", "http://localhost:80/", "https://h.example:443/sqs/",
    "https://h.example:8443/a b/~x/%7E", "http://[::1]:9324/"])


def theirs(endpoint: Endpoint, keys: Keys, headers: dict[str, str], body: bytes,
           moment: datetime) -> str:
    """botocore's Authorization for the same request at the same moment (its clock is told)."""
    request = AWSRequest("POST", endpoint.url, data=body, headers={
        "Content-Type": CONTENT_TYPE, "X-Amz-Target": headers["X-Amz-Target"],
        "X-Amzn-Query-Mode": "true"})
    frozen = ReadOnlyCredentials(keys.access_key, keys.secret_key, keys.token)
    signer: Any = SigV4Auth(frozen, endpoint.service, endpoint.region)
    request.context["timestamp"] = moment.strftime("%Y%m%dT%H%M%SZ")
    signer._modify_request_before_signing(request)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    signer._inject_signature_to_request(request, signer.signature(text, request))
    return str(request.headers["Authorization"])


@settings(max_examples=150, deadline=None)
@given(url=HOSTS, region=st.sampled_from(["us-east-1", "cn-north-1", "eu-central-1"]), key=WORDS,
       secret=WORDS, token=st.none() | WORDS, body=st.binary(max_size=400),
       operation=st.sampled_from(["SendMessageBatch", "ReceiveMessage"]),
       second=st.integers(0, 4_000_000_000))
def test_signatures_equal_botocore_s(
        url: str, region: str, key: str, secret: str, token: str | None, body: bytes,
        operation: str, second: int) -> None:
    """Whatever the host, path, key, token, body and day."""
    endpoint, keys = Endpoint(url, region), Keys(key, secret, token)
    made = dict(Signer(endpoint, lambda: keys, lambda: second * 1_000_000 + 999_999).headers(
        operation, body))
    assert made["Authorization"] == theirs(
        endpoint, keys, made, body, datetime.fromtimestamp(second, UTC))
    assert made.get("X-Amz-Security-Token") == token


def test_refreshed_keys_and_a_new_day_are_used_at_once() -> None:
    """The kept key is of one day and one secret."""
    keys = [Keys("A", "s1", "t1")]
    now = [86_399 * 1_000_000]
    endpoint = Endpoint("https://sqs.us-east-1.amazonaws.com/", "us-east-1")
    signer = Signer(endpoint, lambda: keys[0], lambda: now[0])
    for secret, second in (("s1", 86_399), ("s1", 86_400), ("s2", 86_400), ("s1", 86_400)):
        keys[0], now[0] = Keys("A", secret, f"t-{secret}"), second * 1_000_000
        made = dict(signer.headers("ReceiveMessage", b"{}"))
        assert made["X-Amz-Security-Token"] == f"t-{secret}"
        assert made["Authorization"] == theirs(
            endpoint, keys[0], made, b"{}", datetime.fromtimestamp(second, UTC))
