"""One builder at a time on a local disk.

The kernel releases the lock when its holder dies, so a killed builder blocks
nobody; the file only says who holds it.  On an object store there is no lock:
there the tables themselves refuse the second builder when it publishes.
"""

from __future__ import annotations

import fcntl
import os
import socket
from datetime import UTC, datetime
from pathlib import Path

from pipeline.errors import LakeError


class Lock:
    """A held lock; `release` may be called twice."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the next one in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def acquire(lake: str, name: str) -> Lock:
    """Take a lake's lock of that name, or say who holds it.

    Raises:
        LakeError: another process, or another session of this one, holds it.
    """
    if "://" in lake:
        return Lock(None)
    path = Path(lake) / f"{name}.lock"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = path.read_text(encoding="utf-8").strip() or "someone"
        os.close(descriptor)
        raise LakeError(f"{lake}: {name} is held by {holder}; wait until it is done") from error
    now = datetime.now(UTC).isoformat(timespec="seconds")
    os.ftruncate(descriptor, 0)
    os.pwrite(
        descriptor, f"process {os.getpid()} on {socket.gethostname()} since {now}\n".encode(), 0
    )
    return Lock(descriptor)
