"""Load and check the folder of one rule.

A rule is content, not code: a folder `<rule_id>/` with these files.
`pipeline/detections/template/` is one to copy; it runs in the tests.

    rule.toml      what the rule is (keys below)
    rule.sql       one SELECT that returns one row per finding
    count.sql      optional: one SELECT of one number, how many things were examined
    graph.sql      optional: one SELECT of edges that explain one finding (bound: $finding_id,
                   $tenant_id, $credential_key, $entity)
    cases/*.jsonl  small stories; at least one that fires and one benign twin

**rule.toml**, all required unless said otherwise; an unknown key is an error.

    id                the folder's name, snake_case, says the behaviour
    code              code in the catalogue, `PC-01`
    title             one line; a row may carry a better `title` of its own
    version           "major.minor.patch"; a new major version gives new finding ids
    family            PC, SP, LS, BT, GO, TR: the prefix of the code
    maturity          experimental | stable
    severity          base severity, 1 info to 5 critical
    kind              presence | absence
    why               one paragraph for the analyst
    identity          columns that make a finding the same finding: text, number, boolean, date or
                      lists of text; never a time.  tenant_id belongs to it by itself.
    false_positives   list of sentences
    remediation       one paragraph
    runbook           two or three steps, each with a time window and named columns
    when_gone         optional, default "refuted": what becomes of a finding that a later run over
                      its time no longer returns.  "refuted": it never was true.  "resolved": it was
                      true and has ended (a rotation that was made up for).
    credential_theft  optional, default false: severity is not lowered outside production
    [needs]           tables: every view that the .sql files read, `reg_*` and `rule_watermarks`
                      included; sources: families (tool_call, token_event, secret_event) whose
                      sources must be complete before an absence rule may speak
    [window]          optional.  every_s (3600): how often a scheduler runs it; grace_s (0): how far
                      behind the watermark an absence rule stays
    [parameters.NAME] type (integer, number, text, boolean, texts), default, reason
    [mappings]        lists owasp_asi, owasp_nhi, maestro, nist_govern, attack, atlas; may be empty

**rule.sql** reads the documented views, `reg_*`, and for absence rules
`rule_watermarks(tenant_id, watermark)`: per tenant, up to when all needed
sources are complete, less `grace_s`, never after `$as_of`.  An absence rule
joins it and returns only what lies before the watermark:

    FROM credentials JOIN rule_watermarks USING (tenant_id) WHERE first_used_at < watermark

Bound: every declared parameter as `$name` (each must be used), and at will
`$as_of`, `$from`, `$to` (TIMESTAMPTZ).  A rule sees everything; the engine keeps the
rows whose `last_seen` lies in [from, to), so most rules need neither $from nor $to.
Lists that a row carries are sorted in the SQL: shuffled events must give equal rows.

Columns that a row must have: `tenant_id`, `entity`, `first_seen`, `last_seen`
(TIMESTAMPTZ), `event_uids` (VARCHAR[]), and the identity columns.
Columns that the engine understands, all optional:

    title               VARCHAR, in place of the rule's title
    severity            INTEGER base severity of this row, in place of rule.toml's
    severity_delta      INTEGER added to the base
    confidence          DOUBLE of the finding; else chain_confidence; else that of the chain of
                        credential_key; else 1
    credential_key      VARCHAR: adds chain_path
    possible            BOOLEAN true of some parents only: severity -1, title "Possible: ..."
    action_class        VARCHAR: +1 for admin_iam, delete, payment, secret_read, execute, ...
    resource_sensitivity  INTEGER: ... or for 3 and more, ...
    irreversible        BOOLEAN: ... or if true
    vendor_hosted       BOOLEAN: +1, ...
    cross_domain        BOOLEAN: ... or if true
    environment         VARCHAR: -1 for stage, dev, test, unless credential_theft
    chain_confidence    DOUBLE: -1 below 0.80, -2 below 0.60
    observer            VARCHAR: critical needs one that is not agent_runtime; else that of the
                        issuance of credential_key; unknown is not enough.  And confidence >= 0.95.
    identity_id         VARCHAR registry key whose owner is told; else the entity, else the last
                        actor of chain_path, looked up by alias
    coverage_note       VARCHAR

Every other column goes, with its name, into `summary` (JSON).
The result is clamped to 1..5.  No two rows of one run may share an identity:
`delegraph rules test` refuses it; in production such rows are merged.

**cases/NAME.jsonl**: the first line is one JSON object

    {"name": "...", "as_of": "2026-03-02T12:00:00Z", "expect": [...], "registry": {...}}

`expect` has one object per finding, each naming what must be equal: columns of
`findings` (entity, severity, status, chain_path, ...), identity columns, or keys of the
summary.  Nothing else may be found; `[]` is a benign twin.  `as_of` is optional (one day after
the newest event).  `registry` is optional: file name to the content that the YAML file would
have.  The following lines are contract events as JSON with `family`; the sources count as read
from files, complete at `as_of`.  Each case runs in order, shuffled, and with every event twice.

A fault is a `RuleError` with file and line; all faults of all rules are
raised together as `RuleErrors`.
"""
