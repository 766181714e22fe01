"""The service's and boto3's errors as ours. Only codes are shown: messages can quote signatures
and tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable
from ccfailover.providers.curl import Reply, retry_after

THROTTLED: Final = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "RequestThrottled",
    "RequestThrottledException", "TooManyRequestsException", "RequestLimitExceeded",
    "SlowDown", "BandwidthLimitExceeded", "KmsThrottled", "OverLimit",
    "AWS.SimpleQueueService.OverLimit",
})
_CREDENTIALS: Final = frozenset({
    "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException",
    "UnrecognizedClientException", "InvalidAccessKeyId", "MissingAuthenticationToken",
    "AuthFailure", "InvalidSecurity",
})
_CLOCK: Final = frozenset({"RequestExpired", "RequestTimeTooSkewed", "InvalidSignatureException"})
_ABSENT: Final = frozenset({
    "AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NonExistentQueue",
    "InvalidAddress",
})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException", "KmsAccessDenied"})


def as_provider_error(
    error: Exception, provider: str, where: str, *, writes: bool
) -> ProviderError:
    """Rejected when the same call will fail again, Unavailable when it may not."""
    from botocore.exceptions import ClientError

    if isinstance(error, ProviderError):
        return error
    if isinstance(error, ClientError):  # from a service that gives credentials out
        found = error.response
        meta = found.get("ResponseMetadata", {})
        raw = str(meta.get("HTTPHeaders", {}).get("retry-after", ""))
        wait = min(float(raw), 3600.0) if raw.isascii() and raw.isdigit() and len(raw) < 9 else None
        return _from_code(str(found.get("Error", {}).get("Code", "no code")),
                          meta.get("HTTPStatusCode", 0), wait, provider, where, writes=writes)
    name = type(error).__name__
    if name in ("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
                "TokenRetrievalError", "UnauthorizedSSOTokenError", "ProfileNotFound"):
        return Rejected(f"no usable credentials ({name})", provider=provider, where=where,
                        not_done="nothing was sent",
                        hint="give credentials in the policy or in boto3's usual places")
    if name == "NoRegionError":
        return Rejected("no region", provider=provider, where=where,
                        not_done="nothing was sent", hint="set region in the policy")
    if name in ("ResponseParserError", "IncompleteReadError"):
        return Unavailable("the reply makes no sense", in_doubt=writes, provider=provider,
                           where=where)
    return Rejected(f"the call cannot be made ({name})", provider=provider, where=where)


def refusal(
    reply: Reply, document: Mapping[str, object], provider: str, where: str, *, writes: bool,
    now: Callable[[], int],
) -> ProviderError:
    """What a reply that is no success means; `document` is its body, if that was JSON.

    The header has the code of the older protocol, which tells more; without one the body's
    counts, without namespace; without that, the status."""
    header = reply.headers.get("x-amzn-query-error", "").partition(";")[0]
    kind = document.get("__type")
    word = kind.partition(":")[0].rpartition("#")[2] if isinstance(kind, str) else ""
    return _from_code(header or word or str(reply.status), reply.status,
                      retry_after(reply.headers, now), provider, where, writes=writes)


def _from_code(
    code: str, status: int, wait: float | None, provider: str, where: str, *, writes: bool
) -> ProviderError:
    if code in THROTTLED or status == 429:
        return Unavailable(f"throttled ({shown_code(code)})", in_doubt=False, provider=provider,
                           where=where, retry_after=wait)
    if status >= 500:
        return Unavailable(f"replied {status} ({shown_code(code)})", in_doubt=writes,
                           provider=provider, where=where, retry_after=wait)
    hint = None
    if code in _CREDENTIALS:
        hint = "check this provider's credentials"
    elif code in _CLOCK:
        hint = "check this machine's clock, then the credentials"
    elif code in _ABSENT:
        hint = "check ref, region and account of this queue in the policy"
    elif code in _DENIED:
        hint = "the credentials lack a right: ccfailover providers list names those needed"
    return Rejected(f"refused ({shown_code(code)})", provider=provider, where=where, hint=hint)


def shown_code(code: str) -> str:
    """A code is a plain word; anything else came from a peer that is no SQS."""
    code = code[:80]
    return code if code.replace(".", "").replace("_", "").isalnum() and code.isascii() else "?"
