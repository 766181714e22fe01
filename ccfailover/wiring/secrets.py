"""Secrets by reference: resolved late, kept nowhere, never part of an error's text."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ccfailover.errors import PolicyError, Problem, Unavailable

MOST_BYTES = 65_536


class Resolver:
    """`env:NAME`, `file:/path` (one trailing line break is dropped), `aws-secretsmanager:ID`.

    Raises PolicyError when the reference leads nowhere, Unavailable when the secrets service
    does not answer; the message names the reference, never what is behind it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = environ

    def __call__(self, reference: str) -> str:
        scheme, _, name = reference.partition(":")
        match scheme:
            case "env":
                value = self._environ.get(name)
                if not value:
                    raise _dangling(reference, f"the environment has no {name}")
                return value
            case "file":
                return self._file(reference, Path(name))
            case "aws-secretsmanager":
                return self._aws(reference, name)
        raise _dangling(reference.partition(":")[0] or "secret",
                        "a secret is given as env:NAME, file:/path or aws-secretsmanager:ID")

    def _file(self, reference: str, path: Path) -> str:
        try:
            with path.open("rb") as file:
                raw = file.read(MOST_BYTES + 1)
        except OSError as error:
            raise _dangling(reference, f"cannot be read: {error.strerror}") from None
        if len(raw) > MOST_BYTES:
            raise _dangling(reference, f"is larger than {MOST_BYTES} bytes")
        try:
            return raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError:
            raise _dangling(reference, "is not UTF-8 text") from None

    def _aws(self, reference: str, name: str) -> str:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            client = boto3.client("secretsmanager", config=Config(
                connect_timeout=3, read_timeout=5, retries={"total_max_attempts": 2}))
            found = client.get_secret_value(SecretId=name)
        except (BotoCoreError, ClientError) as error:
            # The SDK's own text may quote the request; its class says enough.
            raise Unavailable(f"{reference} cannot be had: {type(error).__name__}",
                              in_doubt=False, hint="ccfailover doctor") from None
        return str(found.get("SecretString", ""))


def _dangling(reference: str, why: str) -> PolicyError:
    return PolicyError([Problem(reference, 0, 0, f"secret reference {reference}: {why}")],
                       not_done="the platform was not called")
