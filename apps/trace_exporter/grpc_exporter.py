"""The SDK's exporter over gRPC, which also notes the collector's response. Importing gRPC takes 16 MB."""

from typing import Any

from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from apps.trace_exporter.responses import CollectorResponse


class GrpcExporter(OTLPSpanExporter):
    """Notes each response, also after the SDK has made another channel."""

    def __init__(self, response: CollectorResponse) -> None:
        self._response = response
        super().__init__()

    def _initialize_channel_and_stub(self) -> None:
        super()._initialize_channel_and_stub()  # type: ignore[no-untyped-call]  # the SDK's
        client: Any = self._client
        export = client.Export

        def noted(*arguments: Any, **options: Any) -> ExportTraceServiceResponse:
            response: ExportTraceServiceResponse = export(*arguments, **options)
            self._response.note(response)
            return response

        client.Export = noted
