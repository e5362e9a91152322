"""Stories of stale and long-lived secrets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.demo.columns import SECOND
from pipeline.demo.company import KEYS, workload
from pipeline.demo.corpus.catalogue import story
from pipeline.demo.corpus.plot import CRM, DAY, HOUR, MINUTE, REPO, TICKET, Plot

if TYPE_CHECKING:
    from pipeline.demo.script import Event

TXN = "urn:ietf:params:oauth:token-type:txn_token"


def _inventory(p: Plot, agent: str, key: str, age_d: int, **more: object) -> Event:
    """The scanner lists a healthy key of an age in days, used yesterday, with an end."""
    made = p.micros_ago(age_d * DAY)
    event: Event = {"created_at": made, "last_rotated_at": made, "consumers": [agent]}
    event |= {"expires_at": p.micros_ago(-30 * DAY), "last_used_at": p.micros_ago(DAY)}
    return p.secret(p.to_end(p.some(2 * HOUR, 6 * HOUR)), key, agent, **(event | more))


@story("LS-01", "old mighty_and_old", "young no_date excepted revoked certificate")
def ls_01(p: Plot) -> None:
    """A key is older than its kind may be."""
    excepted: Event = {}
    if p.kind == "excepted":
        excepted = {"static_secret_exception_until": p.ago(-60 * DAY)}
    a, key = p.agent("a", **excepted), f"{p.name}-key"
    age = {"young": p.some(60, 88), "mighty_and_old": p.some(40, 80)}.get(p.kind, p.some(95, 400))
    more: Event = {"secret_kind": p.dice.choice(("api_key", "client_secret", "pat"))}
    if p.kind == "mighty_and_old":
        more["scopes"] = ["billing.refund"]
    if p.kind == "no_date":
        more |= {"created_at": None, "last_rotated_at": None}
    if p.kind == "certificate":
        more |= {"secret_kind": "x509", "expires_at": p.micros_ago(-200 * DAY)}
    _inventory(p, a, key, age, **more)
    if p.kind == "revoked":
        p.vault(p.to_end(HOUR), "revoke", key, a, bound_identity_id=a)
    p.keeps_order = True


@story("LS-02", "unused never_used", "used_lately not_exhaustive revoked new")
def ls_02(p: Plot) -> None:
    """A key that nobody uses is still valid."""
    a, key = p.agent("a"), f"{p.name}-key"
    more: Event = {"last_used_at": p.micros_ago(p.some(48, 75) * DAY)}
    if p.kind == "used_lately":
        more["last_used_at"] = p.micros_ago(p.some(3, 43) * DAY)
    if p.kind in ("never_used", "not_exhaustive", "new"):
        more = {"last_used_at": None}
    if p.kind == "not_exhaustive":
        more["snapshot_complete"] = False
    age = p.some(10, 40) if p.kind == "new" else p.some(76, 88)
    _inventory(p, a, key, age, **more)
    if p.kind == "revoked":
        p.vault(p.to_end(HOUR), "revoke", key, a, bound_identity_id=a)
    if p.kind == "never_used":
        # A client's token may have been obtained with it; without one nothing shows a use.
        p.may.add("SP-05")
        p.keeps_order = True
        return
    # The identity itself is alive; its key is what sleeps.
    token = p.client_token(p.to_end(3 * HOUR), a, ("tickets.read",))
    p.call(p.to_end(3 * HOUR - 60), token, TICKET)
    p.keeps_order = True


@story("LS-03", "delegated access transaction days", "at_limit hour issuer_may class_may")
def ls_03(p: Plot) -> None:
    """A credential lives longer than its kind should."""
    limits: Event = {"max_ttl_s": 4 * HOUR} if p.kind == "class_may" else {}
    a, b = p.agent("a", **limits), p.agent("b")
    lives = {
        "access": p.some(HOUR + 600, 3 * HOUR),
        "days": p.some(26, 60) * HOUR,
        "class_may": 3 * HOUR,
        "issuer_may": 7 * HOUR,
    }.get(p.kind, HOUR)
    if p.kind in ("delegated", "at_limit", "transaction"):
        root = p.grant(0, p.person(), a, ("tickets.read",))
        longer = p.some(1000, 3000) if p.kind == "delegated" else 900
        more: Event = {}
        if p.kind == "transaction":
            more, longer = {"token_type": TXN, "txn_id": f"{p.name}-txn"}, p.some(400, 900)
        child = p.exchange(30, root, b, ("tickets.read",), **more)
        child["expires_at"] = child["issued_at"] + longer * SECOND
        return
    token = p.client_token(0, a, ("tickets.read",), lives_s=lives)
    if p.kind == "issuer_may":
        issuer = f"https://as.{p.name}.acme.example"
        known = {"trust_domain": "acme.example", "max_ttl_s": 8 * HOUR}
        p.note("trust", "issuers", known, issuer)
        p.facts["agents.yaml"]["agents"][a]["aliases"] = [{"subject": a}]
        token["credential_issuer"] = issuer


@story("LS-04", "secret key_in_calls", "ends not_said signing_key")
def ls_04(p: Plot) -> None:
    """A key without an end belongs to an agent."""
    a, key = p.agent("a"), f"{p.name}-key"
    more: Event = {"expires_at": None, "never_expires": True}
    if p.kind == "ends":
        more = {}
    if p.kind == "not_said":
        more = {"expires_at": None}
    if p.kind == "signing_key":
        more |= {"secret_kind": "signing_key"}
    _inventory(p, a, key, p.some(5, 60), **more)
    if p.kind == "key_in_calls":
        p.key_call(p.to_end(7 * HOUR), a, key, TICKET)
    p.keeps_order = True


@story("LS-05", "lease_for_weeks person_long_gone", "lease_for_days syncs_by_design same_day")
def ls_05(p: Plot) -> None:
    """Renewed again and again, it never ends."""
    if p.kind.startswith("lease"):
        _lease(p)
        return
    sync: Event = {"background_sync": True} if p.kind == "syncs_by_design" else {}
    a, person = p.agent("a", **sync), p.person()
    hours = p.some(10, 18) if p.kind == "same_day" else p.some(40, 100)
    begins = -hours * HOUR
    root = p.grant(begins, person, a, ("crm.read",))
    token = root
    for step in range(1, hours, 1 if p.kind == "same_day" else 4):
        token = p.refresh(begins + step * HOUR, token)
        p.call(begins + step * HOUR + 60, token, CRM)
    p.keeps_order = True


def _lease(p: Plot) -> None:
    a, lease = p.agent("a"), f"{p.name}-lease"
    days = p.some(35, 60) if p.kind == "lease_for_weeks" else p.some(10, 25)
    # Each renewal is for longer than a day, which is a detection of its own.
    p.may.add("LS-03")
    common: Event = {"secret_kind": "vault_lease", "bound_identity_id": a}
    common["created_at"] = p.micros_ago(days * DAY)
    p.vault(p.to_end(days * DAY), "create", lease, a, **common)
    for day in range(0, days, 2):
        ends = p.micros_ago((days - day - 3) * DAY)
        p.vault(p.to_end((days - day) * DAY - 60), "renew", lease, a, expires_at=ends, **common)


@story("LS-06", "left_valid used_after", "revoked short_lived not_jit worked_to_the_end")
def ls_06(p: Plot) -> None:
    """The task is over, the token is not."""
    a = p.agent("a", **({} if p.kind == "not_jit" else {"jit_required": True}))
    root = p.grant(0, p.person(), a, ("tickets.read", "crm.read"))
    p.may.update(("SP-08",) if p.kind == "used_after" else ())
    if p.kind == "short_lived":
        p.about(20, root, "revoke", revoke_target="token", revoke_reason="task_done")
        token = p.client_token(10, a, ("tickets.read",), lives_s=900)
        token["task_id"] = f"{p.name}-task"
        p.call(60, token, TICKET)
        return
    p.call(p.some(30, 200), root, TICKET)
    p.call(p.some(200, 400), root, CRM)
    if p.kind == "revoked":
        p.about(600, root, "revoke", revoke_target="token", revoke_reason="task_done")
    if p.kind == "worked_to_the_end":
        for after in (1500, 2500, 3400):
            p.call(after, root, TICKET)
    if p.kind == "used_after":
        p.call(p.some(2700, 3300), root, TICKET)
    p.keeps_order = True


@story("LS-07", "forbidden exception_over", "excepted allowed token_instead")
def ls_07(p: Plot) -> None:
    """A static key where the class asks for a workload identity."""
    keys: Event = {"static_secret_allowed": p.kind == "allowed"}
    if p.kind == "exception_over":
        keys["static_secret_exception_until"] = p.ago(30 * DAY)
    if p.kind == "excepted":
        keys["static_secret_exception_until"] = p.ago(-30 * DAY)
    key = f"{p.name}-key"
    held = [{"issuer": KEYS, "kind": "api_key_id", "id": key}]
    a = p.agent("a", **keys, **({"credential_ids": held} if p.chance(0.5) else {}))
    if p.kind == "token_instead":
        p.call(60, p.client_token(0, a, ("tickets.read",)), TICKET)
        return
    for turn in range(p.some(1, 4)):
        p.key_call(60 + 400 * turn, a, key, TICKET)


@story("LS-08", "old_version_used", "used_in_overlap new_version_used")
def ls_08(p: Plot) -> None:
    """The key was rotated, and somebody still uses the old one."""
    a, key = p.agent("a"), f"{p.name}-key"
    rotated = -p.some(40, 80) * HOUR
    common: Event = {"bound_identity_id": a, "consumers": [a]}
    first: Event = {"secret_version": "1"}
    second: Event = {"secret_version": "2"}
    p.vault(rotated - 10 * DAY, "use", key, a, **first, **common)
    p.vault(rotated, "rotate", key, a, last_rotated_at=p.at(rotated), **second, **common)
    later = p.some(2, 20) * HOUR if p.kind == "used_in_overlap" else p.some(26, 38) * HOUR
    version = second if p.kind == "new_version_used" else first
    p.vault(rotated + later, "use", key, a, **version, **common)
    if p.kind == "used_in_overlap":
        p.vault(-HOUR, "use", key, a, **second, **common)


@story("LS-09", "wakes_elsewhere wakes_with_new_tool", "same_as_ever shorter_pause seasonal_job")
def ls_09(p: Plot) -> None:
    """A key that slept for weeks is used again, by another workload or for something else."""
    a = p.agent("a", **({"seasonal": True} if p.kind == "seasonal_job" else {}))
    key = f"{p.name}-key"
    pause = p.some(10, 40) if p.kind == "shorter_pause" else p.some(50, 90)
    pod: Event = {"workload_id": workload(a), "src_ip": "10.0.4.40", "agent_instance": f"{a}-1"}
    for day in (3, 2, 0):
        p.key_call(-(pause + day) * DAY, a, key, TICKET, **pod)
    tool = TICKET if p.kind in ("same_as_ever", "wakes_elsewhere") else REPO
    if p.kind == "wakes_elsewhere":
        pod |= {"workload_id": f"{workload(a)}-laptop", "src_ip": "198.51.100.23"}
    p.key_call(60, a, key, tool, **pod)
    p.keeps_order = True


@story("LS-10", "stranger harvest", "registered_reader listed_consumer nine sync_controller")
def ls_10(p: Plot) -> None:
    """Somebody reads a secret that is not theirs, or very many at once."""
    key = f"{p.name}-secret"
    a = p.agent("a")
    approved = {"approved_secrets": [key]} if p.kind == "registered_reader" else {}
    b = p.agent("b", **approved)
    if p.kind in ("harvest", "nine", "sync_controller"):
        many = 9 if p.kind == "nine" else p.some(11, 16)
        known = {"consumers": [b]} if p.kind == "sync_controller" else {}
        for number in range(many):
            # Whose they are nobody says: only how many it reads is out of the ordinary.
            p.vault(200 + number * p.some(5, 30), "read", f"{key}-{number}", b, **known)
        return
    consumers = [a, b] if p.kind == "listed_consumer" else [a]
    p.secret(-9 * DAY, key, a, consumers=consumers, expires_at=p.micros_ago(-30 * DAY))
    for day in range(8, 0, -2):
        p.vault(-day * DAY, "read", key, a, consumers=consumers)
    p.vault(p.some(0, 20 * MINUTE), "read", key, b, consumers=consumers)
