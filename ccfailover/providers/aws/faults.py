"""The services' and botocore's errors as ours. Only codes are shown: messages can quote what was
sent. A kind whose platform explains a refusal says what it takes from there (`explain`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from ccfailover.errors import ProviderError, Rejected, Unavailable

THROTTLED: Final = frozenset({
    "Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException",
    "RequestThrottled", "RequestLimitExceeded", "RequestThrottledException", "SlowDown",
    "PriorRequestNotComplete",
})
_PAUSE: Final = 2.5
"""Seconds to leave a service alone that throttles without saying for how long: by then Amazon
Connect's allowance, 2 calls a second and 5 at once, is whole again. Less would be used up by the
reads that come before a write."""
_NOT_NOW: Final = frozenset({"EndpointTemporarilyUnavailableException", "ServiceUnavailable"})
_CREDENTIALS: Final = frozenset({
    "InvalidClientTokenId", "SignatureDoesNotMatch", "ExpiredToken", "ExpiredTokenException",
    "UnrecognizedClientException", "MissingAuthenticationToken", "InvalidAccessKeyId",
    "MissingAuthenticationTokenException", "IncompleteSignature",
})
_CLOCK: Final = frozenset({"RequestExpired", "RequestTimeTooSkewed", "InvalidSignatureException"})
_DENIED: Final = frozenset({"AccessDenied", "AccessDeniedException"})
_NO_CREDENTIALS: Final = frozenset({
    "NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError",
    "TokenRetrievalError", "UnauthorizedSSOTokenError", "ProfileNotFound", "SSOTokenLoadError",
})
_MISREAD: Final = frozenset({"ResponseParserError", "IncompleteReadError"})


@dataclass(frozen=True)
class Explained:
    """What a kind makes of a refusal: words to add, and the next thing to do."""

    what: str
    hint: str | None = None


Explain = Callable[[str, str], Explained | None]
"""A refusal's code and message → what may be shown of it, or None."""


@dataclass(frozen=True)
class Told:
    """A refusal as the service sent it; `wait`: the seconds of its Retry-After."""

    code: str
    status: int
    message: str
    wait: float | None


def as_provider_error(
    error: Exception, provider: str, where: str, *, writes: bool, explain: Explain | None = None
) -> ProviderError:
    """Rejected when the same call will fail again, Unavailable when it may not."""
    from botocore.exceptions import BotoCoreError, ClientError

    if isinstance(error, ProviderError):
        return error
    if isinstance(error, ClientError):
        return _refusal(_told(error), provider, where, writes, explain)
    name = type(error).__name__
    if name in _NO_CREDENTIALS:
        return Rejected(f"no usable credentials ({name})", provider=provider, where=where,
                        not_done="nothing was sent",
                        hint="give credentials in the policy or in boto3's usual places")
    if name in _MISREAD or not isinstance(error, BotoCoreError):
        return Unavailable("the reply makes no sense", in_doubt=writes, provider=provider,
                           where=where)
    return Rejected(f"the call cannot be made ({name})", provider=provider, where=where,
                    not_done="nothing was sent")


def _told(error: object) -> Told:
    response = getattr(error, "response", {})
    meta, said = response.get("ResponseMetadata", {}), response.get("Error", {})
    status = meta.get("HTTPStatusCode", 0)
    raw = str(meta.get("HTTPHeaders", {}).get("retry-after", ""))
    wait = min(float(raw), 3600.0) if raw.isascii() and raw.isdigit() and len(raw) < 9 else None
    asked = response.get("retryAfterSeconds")  # a member of some services' errors
    if wait is None and isinstance(asked, int) and 0 < asked <= 3600:
        wait = float(asked)
    code = str(said.get("Code", "no code")).rpartition("#")[2].partition(":")[0]
    return Told(code, status if isinstance(status, int) else 0,
                str(said.get("Message", ""))[:4000], wait)


def _refusal(told: Told, provider: str, where: str, writes: bool,
             explain: Explain | None) -> ProviderError:
    code = shown_code(told.code)
    if told.code in THROTTLED or told.status == 429:
        return Unavailable(f"throttled ({code})", in_doubt=False, provider=provider, where=where,
                           retry_after=_PAUSE if told.wait is None else told.wait)
    if told.status >= 500 or told.code in _NOT_NOW:
        return Unavailable(f"replied {told.status} ({code})", in_doubt=writes, provider=provider,
                           where=where, retry_after=told.wait)
    if told.status < 400:  # a redirect: nothing was done where it came from
        return Rejected(f"replied {told.status} where an answer belongs", provider=provider,
                        where=where, not_done="nothing was done")
    explained = explain(told.code, told.message) if explain is not None else None
    hint = explained.hint if explained else None
    if told.code in _CREDENTIALS:
        hint = "check this provider's credentials"
    elif told.code in _CLOCK:
        hint = "check this machine's clock, then the credentials"
    elif told.code in _DENIED and hint is None:
        hint = "the credentials lack a right: ccfailover providers list names those needed"
    what = f"refused ({code})" + (f": {explained.what}" if explained and explained.what else "")
    return Rejected(what, provider=provider, where=where, hint=hint,
                    not_done="nothing was changed" if writes else None)


def shown_code(code: str) -> str:
    """A code is a plain word; anything else came from a peer that is not Amazon's."""
    code = code[:80]
    return code if code.replace(".", "").replace("_", "").isalnum() and code.isascii() else "?"
