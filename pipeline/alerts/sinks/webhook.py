"""A webhook in Standard Webhooks form: JSON, signed, to one HTTPS address."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING

from pipeline import __version__
from pipeline.alerts import sign, transport
from pipeline.alerts.alert import Outcome
from pipeline.config import Secret  # noqa: TC001  # options are read by their annotations

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Webhook:
    """One receiver that verifies what it gets."""

    name: str
    url: Secret
    """`url`, `url_file` or `url_env`: many receivers take a URL for a password."""
    secret: Secret
    """`whsec_...`; two of them, parted by a space, while the receiver rotates."""
    min_severity: int = 3
    allow_hosts: tuple[str, ...] = ()
    allow_private: bool = False
    timeout_s: float = 15.0

    def __post_init__(self) -> None:
        """Refuse at the start what could only fail later.

        Raises:
            ValueError: The URL or the secret has the wrong form; it is not quoted.
        """
        fault = transport.url_fault(self.url.reveal(), self._policy)
        if fault:
            raise ValueError(f"url: {fault}")
        try:
            sign.keys_of(self.secret)
        except ValueError as error:
            raise ValueError(f"secret: {error}") from None

    @property
    def _policy(self) -> transport.Policy:
        return transport.Policy(self.timeout_s, self.allow_private, self.allow_hosts)

    def send(self, delivery_id: str, body: str, at: datetime) -> Outcome:
        """Make one attempt; only a 2xx answer is success, and 410 is for good."""
        payload = body.encode()
        signed = sign.headers(sign.keys_of(self.secret), delivery_id, int(at.timestamp()), payload)
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": f"delegraph/{__version__}",
            **signed,
        }
        reply = transport.post(self.url.reveal(), payload, headers, self._policy)
        if reply.status is None:
            return Outcome(delivered=False, error=reply.error)
        if HTTPStatus.OK <= reply.status < HTTPStatus.MULTIPLE_CHOICES:
            return Outcome(delivered=True, status_code=reply.status)
        return Outcome(
            delivered=False,
            status_code=reply.status,
            error=f"HTTP {reply.status}",
            retry_after_s=transport.retry_after_s(reply.retry_after, at),
            gone=reply.status == HTTPStatus.GONE,
        )


SINK = Webhook
