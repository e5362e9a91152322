"""One scope implies another only where the registry says so: for its issuer, at its audience."""

from __future__ import annotations

import pytest

from pipeline.chains import build_chains
from pipeline.registry import load_registry
from tests.factories import NOW, token_event, tool_call, write_events

ISSUER = "https://idp.test"
SCOPES = """
implications:
  - {issuer: "https://idp.test", audience: crm, scope: admin, implies: [write]}
  - {scope: write, implies: [read]}
"""


@pytest.mark.parametrize(
    ("audience", "issuer", "attenuation"),
    [
        (["crm"], ISSUER, "covered"),
        (["mail"], ISSUER, "not_covered"),
        (["mail", "crm"], ISSUER, "covered"),
        ([], ISSUER, "covered"),
        (["crm"], "https://other.test", "not_covered"),
    ],
)
def test_an_implication_holds_for_its_issuer_and_audience(
    lake, tmp_path, audience, issuer, attenuation
):
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "scopes.yaml").write_text(SCOPES)
    parent = {"role": "subject", "issuer": issuer, "kind": "jti", "id": "root"}
    usual = {"credential_issuer": issuer, "audience": audience}
    root = token_event(credential_id="root", scopes=["admin"], **usual)
    child = token_event(
        op="exchange", credential_id="child", scopes=["read"], parents=[parent], **usual
    )
    call = tool_call(
        credential_issuer=issuer,
        credential_kind="jti",
        credential_id="root",
        required_scopes=["read"],
    )
    write_events(lake, [root, child, call])

    build_chains(lake, load_registry(tmp_path / "policy"), NOW)

    with lake.connect() as con:
        assert con.execute("SELECT attenuation FROM hops").fetchall() == [(attenuation,)]
        assert con.execute("SELECT scope_coverage FROM calls").fetchall() == [(attenuation,)]
