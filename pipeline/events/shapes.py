"""What usable credentials look like.

Declares patterns only.  `find_secrets` finds the secret part of each hit: one
group per alternative, so that the text around it stays readable.  Ids that
merely name a credential (AWS access key ids, accessors, `jti`) must not match,
nor may digests, UUIDs, ARNs and paths.
"""

from __future__ import annotations

import re

# Where a token may begin: not within a word, but after a percent-encoded byte.
_EDGE = r"(?:(?<![A-Za-z0-9])|(?<=%[0-9A-Fa-f]{2}))"

_PREFIXED = (
    r"gh[pousr]_[A-Za-z0-9]{20,}",
    r"github_pat_\w{20,}",
    r"gl(?:pat|ptt|dt|rt|cbt|soat)-[\w-]{16,}",
    r"sk-(?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{20,}",
    r"[sr]k_(?:live|test)_[A-Za-z0-9]{16,}",
    r"whsec_[A-Za-z0-9+/=_-]{16,}",
    r"xox[a-z]-[\w-]{10,}",
    r"xapp-[\w-]{10,}",
    r"hv[sbr]\.[\w-]{20,}",
    r"s\.(?=[A-Za-z]*[0-9])[A-Za-z0-9]{24}(?![A-Za-z0-9])",
    r"b\.AAAA[\w-]{60,}",
    r"AIza[\w-]{35}",
    r"ya29\.[\w-]{20,}",
    r"GOCSPX-[\w-]{20,}",
    r"1//0[\w-]{30,}",
    r"npm_[A-Za-z0-9]{30,}",
    r"pypi-AgE[\w-]{30,}",
    r"hf_[A-Za-z0-9]{30,}",
    r"dop_v1_[a-f0-9]{40,}",
    r"dckr_pat_[\w-]{20,}",
    r"shp(?:at|ca|pa|ss)_[A-Fa-f0-9]{32}",
    r"SG\.[\w-]{16,}\.[\w-]{16,}",
    r"ATATT3[\w=-]{30,}",
    r"AGE-SECRET-KEY-1[A-Z0-9]{40,}",
)

# Names whose value is a credential wherever they stand, in any spelling.
_TELLING_NAME = (
    r"(?i:secret[_-]?access[_-]?key|secret[_-]?key|session[_-]?token|security[_-]?token"
    r"|(?:access|refresh|id|auth|subject|actor|device|bearer|personal[_-]?access)[_-]?token"
    r"|client[_-]?(?:secret|assertion)|(?:api|private|account)[_-]?key"
    r"|pass(?:word|wd|phrase)|authorization|saml[_-]?(?:response|assertion)|code[_-]?verifier|device[_-]?code|x-amz-signature)"
)
_SHORT_NAME = r"(?<![A-Za-z0-9_-])(?i:token|secret|assertion|sig|signature|pwd|jwt|code|key)"
_VALUE = r"[^\s&\"'\\,;#<>(){}\[\]]"

_ALTERNATIVES = (
    (
        r"(-----BEGIN [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----"
        r"[\s\S]*?(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----|\Z))"
    ),
    r"<EDGE>(e(?:yJ|yA|wo|w0)[\w-]{8,}(?:\.[\w-]{4,}|\.(?=\.))(?:\.[\w-]*){0,3})",
    r"<EDGE>((?:IQo[JD]|F[wQ]o[GD]|AgoJ|AQo[DE])[A-Za-z0-9+/=%\\_-]{60,})",
    rf"<EDGE>({'|'.join(_PREFIXED)})",
    (
        r"(?i:bearer|dpop)(?:\s+|%20|\+)(?!redacted)"
        r"((?:(?=[A-Za-z._~+/=-]*[0-9])|(?=[A-Za-z._~+/=-]{32}))[A-Za-z0-9._~+/=%-]{8,})"
    ),
    r"(?i:basic)(?:\s+|%20|\+)(?P<basic>[A-Za-z0-9+/_-]{6,}={0,2})",
    r"://[^\s/?#@\"':]{0,256}:(?!redacted)([^\s/?#@\"']{1,512})@",
    (
        rf"{_TELLING_NAME}(?:=|%3[Dd]|[\"'\\]+\s*(?:=>|[:=])\s*[\"'\\]+|:\s+[\"'\\]*)(?!redacted)"
        rf"(?!(?i:bearer|basic|dpop)(?:\s|%20))({_VALUE}+)"
    ),
    rf"{_SHORT_NAME}(?:=|%3[Dd]|[\"'\\]+\s*[:=]\s*[\"'\\]+)(?!redacted)({_VALUE}{{16,}})",
    r"A[KS]IA[A-Z0-9]{16}[\s:,;|\"']{1,4}([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+])",
)

IN_TEXT = re.compile("|".join(_ALTERNATIVES).replace("<EDGE>", _EDGE), re.ASCII)
IN_JSON_BYTES = re.compile(IN_TEXT.pattern.encode())
# In a binary frame the byte before a text is its length, which may look like a letter.
IN_BINARY = re.compile("|".join(_ALTERNATIVES).replace("<EDGE>", "").encode())

# What must stand in a text before IN_TEXT can match, for RE2, which reads a whole
# column at several hundred megabytes a second.  No look-around there.
_ANCHORS = (
    r"e(?:yJ|yA|wo|w0)[\w-]{8}",
    r"(?:IQo[JD]|F[wQ]o[GD]|AgoJ|AQo[DE])[A-Za-z0-9+/=%\\_-]{60}",
    r"gh[pousr]_|github_pat_|gl(?:pat|ptt|dt|rt|cbt|soat)-|[sr]k_(?:live|test)_|whsec_|xox[a-z]-|xapp-",
    r"hv[sbr]\.|s\.[A-Za-z0-9]{24}|b\.AAAA|AIza|ya29\.|GOCSPX-|1//0|npm_|pypi-AgE|hf_|dop_v1_",
    r"dckr_pat_|shp(?:at|ca|pa|ss)_|SG\.[\w-]{16}|ATATT3|AGE-SECRET-KEY-1|PRIVATE KEY",
    r"(?i:bearer|dpop|basic)(?:\s|%20|\+)",
    r"://[^\s/?#@\"':]*:[^\s/?#@\"']+@",
    rf"{_TELLING_NAME}(?:=|%3[Dd]|[\"'\\]+\s*[:=]|:\s)",
    r"(?i:token|secret|assertion|sig|signature|pwd|jwt|code|key)(?:=|%3[Dd]|[\"'\\]+\s*[:=])",
    r"A[KS]IA[A-Z0-9]{16}[\s:,;|\"']",
)
_JOINED = r"sk-[A-Za-z0-9_-]{20}"
_ALONE = r"(?:^|[^A-Za-z0-9]|%[0-9A-Fa-f]{2})sk-[A-Za-z0-9_-]{20}"
MAY_BE_IN_COLUMN = "|".join((*_ANCHORS, _JOINED))
MAY_BE_IN_VALUE = "|".join((*_ANCHORS, _ALONE))

# Names of fields that hold a credential, or a tool's raw arguments or results,
# without case, blanks and punctuation.
_SECRET_ENDINGS = (
    "token",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "apikey",
    "privatekey",
    "secretkey",
    "secretaccesskey",
    "accountkey",
    "authorization",
    "cookie",
    "clientassertion",
    "codeverifier",
    "samlassertion",
    "samlresponse",
)
_RAW_NAMES = frozenset(
    {
        "arguments",
        "args",
        "toolarguments",
        "toolargs",
        "toolinput",
        "result",
        "toolresult",
        "output",
        "tooloutput",
        "prompt",
        "completion",
        "messages",
    }
)
_PUNCTUATION = re.compile(r"[^a-z0-9.]")


def is_secret_name(name: str) -> bool:
    """Return whether a field of this name holds a credential."""
    return _squeeze(name).endswith(_SECRET_ENDINGS)


def is_raw_name(name: str) -> bool:
    """Return whether a field of this name holds raw arguments or results."""
    return _squeeze(name) in _RAW_NAMES


def _squeeze(name: str) -> str:
    return _PUNCTUATION.sub("", name.lower()).rpartition(".")[2]
