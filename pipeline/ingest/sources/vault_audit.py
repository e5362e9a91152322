"""HashiCorp Vault and OpenBao audit devices: JSON lines, with or without a prefix.

A request and its response are two observations of one call, named by `request.id`.  A token
is its accessor: a response whose token is another than the request's is a token made from it;
a login has no parent, and names as subject whom the auth method knew.  Renewals, revocations
(children die too, except where the orphan path is used), wrapping tokens, reads and writes of
key-value secrets and leases are told besides the call.

An audit device hashes accessors with a salt of its own, so that one token has another id in
every device; salts never give equal ids, and nothing is joined across devices.  Say
`instance` (vault and device) where records of several are read: it is part of every issuer.
Batch tokens have no accessor: one is known where it is made and nowhere else.  A lease's end
is not in the log, nor is a lease's id in a request unless the device was told not to hash it.

Never keeps data of requests or answers, client tokens, metadata that whoever makes a token may
write, or the text of an error, which repeats arguments.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.ingest.json_text import is_cut_json, member, parse_json
from pipeline.ingest.sql_source import SqlSource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.ingest.sources import Adapted, Context

WRAPPER = None

_AUTH = {
    "accessor": "VARCHAR",
    "client_token": "VARCHAR",
    "display_name": "VARCHAR",
    "entity_id": "VARCHAR",
    "policies": ["VARCHAR"],
    "num_uses": "BIGINT",
    "remaining_uses": "BIGINT",
    "token_type": "VARCHAR",
    "token_ttl": "BIGINT",
    "token_issue_time": "VARCHAR",
    "policy_results": {"allowed": "BOOLEAN", "granting_policies": [{"name": "VARCHAR"}]},
    # What auth methods write about whom they let in.
    "metadata": {
        "role": "VARCHAR",
        "role_name": "VARCHAR",
        "username": "VARCHAR",
        "sub": "VARCHAR",
        "common_name": "VARCHAR",
        "service_account_name": "VARCHAR",
        "service_account_namespace": "VARCHAR",
        "service_account_email": "VARCHAR",
        "canonical_arn": "VARCHAR",
        "client_arn": "VARCHAR",
    },
}
SOURCE = SqlSource(
    name="vault_audit",
    shape={
        "type": "VARCHAR",
        "time": "VARCHAR",
        "error": "VARCHAR",
        "forwarded_from": "VARCHAR",
        "auth": _AUTH,
        "request": {
            "id": "VARCHAR",
            "client_id": "VARCHAR",
            "operation": "VARCHAR",
            "path": "VARCHAR",
            "mount_point": "VARCHAR",
            "mount_type": "VARCHAR",
            "mount_accessor": "VARCHAR",
            "namespace": {"id": "VARCHAR", "path": "VARCHAR"},
            "remote_address": "VARCHAR",
            "headers": {"user-agent": ["VARCHAR"]},
            "client_certificate_serial_number": "VARCHAR",
            "wrap_ttl": "BIGINT",
            "replication_cluster": "VARCHAR",
            "data": {
                "accessor": "VARCHAR",
                "token": "VARCHAR",
                "lease_id": "VARCHAR",
                "no_parent": "BOOLEAN",
                "versions": ["VARCHAR"],
            },
        },
        "response": {
            "auth": _AUTH,
            "secret": {"lease_id": "VARCHAR"},
            "data": {"version": "VARCHAR", "metadata": {"version": "VARCHAR"}},
            "wrap_info": {
                "accessor": "VARCHAR",
                "creation_time": "VARCHAR",
                "ttl": "BIGINT",
                "wrapped_accessor": "VARCHAR",
            },
        },
    },
    digests={"args_hash": ("request", "data"), "result_hash": ("response", "data")},
    hidden=(
        ("auth", "client_token"),
        ("auth", "metadata"),
        ("error",),
        ("request", "client_token"),
        ("request", "data"),
        ("request", "headers"),
        ("request", "path"),
        ("request", "request_uri"),
        ("request", "supplemental_audit_data"),
        ("response", "auth", "client_token"),
        ("response", "auth", "metadata"),
        ("response", "data"),
        ("response", "headers"),
        ("response", "redirect"),
        ("response", "warnings"),
        ("response", "supplemental_audit_data"),
        ("response", "wrap_info", "token"),
    ),
)


def recognises(record: object) -> bool:
    """Return whether a record is a request or a response of an audit device."""
    if isinstance(record, bytes) and is_cut_json(record, b'"client_token_accessor"'):
        return True
    if isinstance(record, bytes) and b'"request"' in record:
        # A prefix of the device's own hides that it is JSON.
        try:
            record = parse_json(_without_prefix(record) or b"")
        except ValueError:
            return False
    return (
        isinstance(record, dict)
        and record.get("type") in ("request", "response")
        and member(record, "request", "path") is not None
        and (
            member(record, "request", "id") is not None
            or member(record, "request", "operation") == "help"
        )
    )


def adapt(values: Sequence[bytes | None], context: Context) -> Adapted:
    """Return one tool call per record, and what a response says of tokens and secrets."""
    return SOURCE.adapt([_without_prefix(value) for value in values], context)


def _without_prefix(value: bytes | None) -> bytes | None:
    """Return a line without what syslog or the device's `prefix` put before the record."""
    if value is None or value.lstrip()[:1] in (b"{", b"[", b'"'):
        return value
    return value[max(value.find(b"{"), 0) :]
