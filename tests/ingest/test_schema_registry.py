"""The registry client against a local HTTP server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from pipeline.errors import SourceError
from pipeline.events.schema import avro_text
from pipeline.ingest.schema_registry import RegistryClient

ANSWERS = {
    1: (200, {"schema": avro_text("tool_call")}),
    2: (200, {"schema": "{}", "schemaType": "JSON"}),
    4: (404, {"error_code": 40403, "message": "Schema not found"}),
    5: (500, {"error_code": 50001, "message": "broken"}),
}


@pytest.fixture
def server():
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            number = int(self.path.split("?")[0].rsplit("/", 1)[1])
            asked.append(number)
            status, body = ANSWERS[number]
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(json.dumps(body).encode())

        def log_message(self, *_args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}", asked
        running.shutdown()
        thread.join()


def test_a_schema_is_asked_for_once(server):
    url, asked = server
    client = RegistryClient(url)

    texts = [client.schema_text(1), client.schema_text(1)]

    assert [json.loads(text)["name"] for text in texts] == ["tool_call", "tool_call"]
    assert asked == [1]


@pytest.mark.parametrize("number", [4, 2], ids=["unknown id", "no Avro schema"])
def test_an_id_without_an_avro_schema_is_a_key_error(server, number):
    with pytest.raises(KeyError):
        RegistryClient(server[0]).schema_text(number)


def test_a_registry_that_is_broken_is_a_source_error(server):
    with pytest.raises(SourceError, match="HTTP 500"):
        RegistryClient(server[0]).schema_text(5)


def test_a_registry_that_is_down_is_a_source_error():
    with pytest.raises(SourceError, match="does not answer"):
        RegistryClient("http://127.0.0.1:9").schema_text(1)
