"""One HTTPS POST to an address that was checked, and to no other.

A name is resolved once and the connection goes to the address that passed, so
that a second answer of the resolver cannot lead inwards.  Follows no redirect,
uses no proxy, reads a bounded answer within a bounded time.  A failure is a value
with a fixed text: what libraries put into theirs may hold the URL.
"""

from __future__ import annotations

import contextlib
import http.client
import ipaddress
import socket
import ssl
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

MAX_RESPONSE_BYTES = 16_384

# Global by the registries, but each embeds an IPv4 address that may be an inner one,
# or, with the last, was inner before it was given up.
_SHUT = [
    ipaddress.ip_network(net)
    for net in (
        "::ffff:0:0/96",
        "64:ff9b::/96",
        "64:ff9b:1::/48",
        "2002::/16",
        "2001::/32",
        "::/96",
        "fec0::/10",
    )
]


@dataclass(frozen=True)
class Policy:
    """Where a request may go."""

    timeout_s: float = 15.0
    """Seconds for the whole exchange, however slowly the answer drips."""
    allow_private: bool = False
    """Private and loopback addresses, and to those plain HTTP."""
    allow_hosts: tuple[str, ...] = ()
    """Where given, no other host."""


@dataclass(frozen=True)
class Reply:
    """What came back: a status, or the reason why there is none."""

    status: int | None = None
    error: str | None = None
    retry_after: str | None = None


def is_public(address: Address) -> bool:
    """Return whether an address belongs to the open Internet."""
    shut = any(address in net for net in _SHUT if net.version == address.version)
    return address.is_global and not address.is_multicast and not shut


def _is_inner(address: Address) -> bool:
    """Return whether it is an inner address that somebody may want to name on purpose."""
    # Link-local stays shut even then: cloud metadata lives there.
    shut = address.is_link_local or address.is_multicast or address.is_unspecified
    return (address.is_private or address.is_loopback) and not shut


def url_fault(url: str, policy: Policy) -> str | None:
    """Return what is wrong with a URL as far as its text shows it."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "the URL is not valid"
    if not host or parts.scheme not in {"https", "http"} or not url.isprintable() or " " in url:
        return "the URL is not valid"
    if parts.scheme == "http" and not policy.allow_private:
        return "the URL must begin with https"
    if parts.username is not None:
        return "the URL must not hold a user name"
    if policy.allow_hosts and host not in {name.lower() for name in policy.allow_hosts}:
        return "the host is not among allow_hosts"
    return None


def post(url: str, body: bytes, headers: Mapping[str, str], policy: Policy) -> Reply:
    """Send one request; every way to fail is a Reply with an error."""
    fault = url_fault(url, policy)
    if fault:
        return Reply(error=fault)
    parts = urlsplit(url)
    try:
        address = _checked_address(parts, policy)
    except (OSError, UnicodeError):
        return Reply(error="the name does not resolve")
    if address is None:
        return Reply(error="the address is not allowed: private, link-local or reserved")
    try:
        plain = socket.create_connection((address, _port(parts)), timeout=policy.timeout_s)
    except OSError as error:
        return Reply(error=_reason(error))
    with plain, _deadline(plain, policy.timeout_s) as late:
        try:
            reply = _exchange(_connection(parts, plain), parts, body, headers)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reply = Reply(error=_reason(error))
    return Reply(error="timed out") if late.is_set() else reply


def _port(parts: SplitResult) -> int:
    return parts.port or (443 if parts.scheme == "https" else 80)


def _checked_address(parts: SplitResult, policy: Policy) -> str | None:
    found = socket.getaddrinfo(parts.hostname, _port(parts), type=socket.SOCK_STREAM)
    for *_, place in found:
        text = str(place[0])
        address = ipaddress.ip_address(text.partition("%")[0])
        if is_public(address) and parts.scheme == "https":
            return text
        if policy.allow_private and _is_inner(address):
            return text
    return None


@contextlib.contextmanager
def _deadline(sock: socket.socket, timeout_s: float) -> Iterator[threading.Event]:
    """Cut the connection when the time is up; the event tells whether it was."""
    # Each read has its own timeout; an answer of one byte a second would outlast it.
    late, guard = threading.Event(), sock.dup()

    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):  # it ended by itself
            guard.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(timeout_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()
        timer.join()
        guard.close()


def _connection(parts: SplitResult, plain: socket.socket) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    connection = http.client.HTTPConnection(host, _port(parts))
    # With a socket in place http.client opens none of its own.
    connection.sock = plain
    if parts.scheme == "https":
        connection.default_port = 443
        connection.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=host)
    return connection


def _exchange(
    connection: http.client.HTTPConnection,
    parts: SplitResult,
    body: bytes,
    headers: Mapping[str, str],
) -> Reply:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    with contextlib.closing(connection):
        connection.request("POST", target, body, dict(headers))
        response = connection.getresponse()
        response.read(MAX_RESPONSE_BYTES)
        return Reply(status=response.status, retry_after=response.getheader("Retry-After"))


# The first that fits; the order goes from special to general.
_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (TimeoutError, "timed out"),
    (ssl.SSLCertVerificationError, "the certificate is not valid"),
    (ssl.SSLError, "TLS failed"),
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "the connection was closed"),
    (OSError, "the host cannot be reached"),
    (http.client.HTTPException, "the answer is not HTTP"),
)


def _reason(error: Exception) -> str:
    fitting = (reason for kind, reason in _REASONS if isinstance(error, kind))
    return next(fitting, "the request could not be made")


def retry_after_s(text: str | None, now: datetime) -> float | None:
    """Return the seconds that a `Retry-After` header asks for, None where it is not one."""
    if not text:
        return None
    if text.strip().isascii() and text.strip().isdigit():
        return float(text)
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return None
    aware = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max(0.0, (aware - now).total_seconds())
