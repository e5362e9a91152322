"""Real libraries that write spans of their own: pydantic-ai, FastMCP's client, the MCP SDK.

Started as a process of its own, for a span provider stands once in a process:

    otel_emitter.py agent FOLDER    two agents, one asks the other, whose tool is an MCP
                                    server's; no model and no network: TestModel calls
                                    every tool it is given
    otel_emitter.py server FOLDER   that MCP server, over stdio, started by the agent

Each leaves what its batch span processor exported: FOLDER/SERVICE-N.otlp, protobuf.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

CONTENT = "do-not-store"


class FolderExporter(SpanExporter):
    """Writes each export to a file of its own."""

    def __init__(self, folder: Path, service: str) -> None:
        self._paths = (folder / f"{service}-{number}.otlp" for number in itertools.count())

    def export(self, spans):
        next(self._paths).write_bytes(encode_spans(spans).SerializeToString())
        return SpanExportResult.SUCCESS


def provide(folder: Path, service: str) -> TracerProvider:
    provider = TracerProvider(resource=Resource.create({"service.name": service}))
    provider.add_span_processor(
        BatchSpanProcessor(FolderExporter(folder, service), schedule_delay_millis=600_000)
    )
    trace.set_tracer_provider(provider)
    return provider


def serve(folder: Path) -> None:
    from mcp.server.mcpserver import MCPServer  # noqa: PLC0415 - each side loads its own

    server = MCPServer("weather")

    @server.tool()
    def get_weather(city: str) -> str:
        return f"{CONTENT} in {city}"

    provider = provide(folder, "weather-mcp")
    try:
        server.run("stdio")
    finally:
        provider.shutdown()


async def ask(folder: Path) -> None:
    from fastmcp.client.transports import StdioTransport  # noqa: PLC0415 - see above
    from pydantic_ai import Agent  # noqa: PLC0415
    from pydantic_ai.mcp import MCPToolset  # noqa: PLC0415
    from pydantic_ai.models.test import TestModel  # noqa: PLC0415

    Agent.instrument_all(True)
    transport = StdioTransport(sys.executable, [__file__, "server", str(folder)])
    helper = Agent(TestModel(), name="helper", toolsets=[MCPToolset(transport, init_timeout=120)])
    boss = Agent(TestModel(), name="boss")

    @boss.tool_plain
    async def ask_helper(question: str) -> str:
        return (await helper.run(question)).output

    await boss.run(f"{CONTENT}: what is the weather?")


if __name__ == "__main__":
    if sys.argv[1] == "server":
        serve(Path(sys.argv[2]))
    else:
        tracing = provide(Path(sys.argv[2]), "desk")
        asyncio.run(ask(Path(sys.argv[2])))
        tracing.shutdown()
