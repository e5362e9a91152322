"""Writer schemas from a schema registry, asked once for each id."""

from __future__ import annotations

import contextlib
import importlib
import warnings

from pipeline.errors import SourceError

with warnings.catch_warnings(record=True):
    # The client's own dependencies deprecate one another on import, loudly.
    import httpx
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.error import SchemaRegistryError

_DOWN: tuple[type[Exception], ...] = (httpx.HTTPError, OSError)
with contextlib.suppress(ImportError):
    # Where the successor of httpx is installed, the client takes that.
    _DOWN += (importlib.import_module("httpx2").HTTPError,)
TIMEOUT_S = 10
_NOT_FOUND = 404
_SERVER_FAULT = 500


class RegistryClient:
    """A schema registry behind a URL; what it once said is not asked again."""

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S) -> None:
        self._url = url
        # The loop tries again by itself, so that it can stay in its group meanwhile.
        self._client = SchemaRegistryClient({"url": url, "timeout": timeout_s, "max.retries": 0})
        self._texts: dict[int, str] = {}

    def schema_text(self, schema_id: int) -> str:
        """Return the writer schema with this id.

        Raises:
            KeyError: the registry knows no such id, or it is no Avro schema.
            SourceError: the registry does not answer.
        """
        if schema_id not in self._texts:
            self._texts[schema_id] = self._fetch(schema_id)
        return self._texts[schema_id]

    def close(self) -> None:
        """Let the connection go."""
        self._client.close()

    def _fetch(self, schema_id: int) -> str:
        try:
            schema = self._client.get_schema(schema_id)
        except SchemaRegistryError as error:
            if error.http_status_code == _NOT_FOUND:
                raise KeyError(schema_id) from None
            raise SourceError(
                f"the schema registry refuses (HTTP {error.http_status_code}); "
                "check [kafka] registry_url and its credentials"
            ) from error
        except _DOWN as error:
            raise SourceError(
                f"the schema registry does not answer ({type(error).__name__}); "
                "is it running, and is [kafka] registry_url right?"
            ) from error
        if schema.schema_type != "AVRO" or not schema.schema_str:
            raise KeyError(schema_id)
        return str(schema.schema_str)
