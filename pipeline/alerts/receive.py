"""The smallest receiver that does everything a receiver must: copy it.

It verifies signature and age, drops repeats by id, and answers 204 only for what
it has taken.  The demo and the tests run it; it listens on loopback.
"""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from pipeline.alerts import sign
from pipeline.config import Secret

MAX_BODY_BYTES = 1_000_000


class Receiver:
    """A webhook receiver on a free loopback port; use it in a `with` block."""

    def __init__(self, secret: str, port: int = 0) -> None:
        self._keys = sign.keys_of(Secret(secret))
        self._server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/alerts"
        self.received: dict[str, dict[str, Any]] = {}
        """Verified bodies by `webhook-id`, in the order of arrival."""
        self.refused = 0
        self.repeated = 0

    def take(self, headers: dict[str, str], body: bytes) -> int:
        """Return the HTTP status for one request, and keep what is genuine and new."""
        if not sign.verifies(self._keys, headers, body, time.time()):
            self.refused += 1
            return 401
        if headers["webhook-id"] in self.received:
            self.repeated += 1
        self.received.setdefault(headers["webhook-id"], json.loads(body))
        return 204

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                size = min(int(self.headers.get("content-length") or 0), MAX_BODY_BYTES)
                headers = {key.lower(): value for key, value in self.headers.items()}
                self.send_response(receiver.take(headers, self.rfile.read(size)))
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing: the request line holds the URL."""

        return Handler
