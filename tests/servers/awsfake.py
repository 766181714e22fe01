"""Small servers that speak Amazon's protocols, each request and each reply held to the service's
published model.

A service is a class with one method for each operation it has (`do_GetChange`). It gets a document
that fits the model, and gives one that must; it raises Fault for what the service refuses although
the SDK lets it pass. `throttle` gives it Amazon Connect's limit: 2 a second, bursts of 5, then 429.
"""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar, Self
from urllib.parse import urlsplit
from xml.etree import ElementTree

from botocore.model import OperationModel

from tests.servers.awsmodel import Wrong, check, service_model
from tests.servers.awswire import (
    Cbor,
    from_json,
    rest_request,
    template_matches,
    to_cbor,
    to_json,
    to_xml,
)
from tests.servers.bucket import Bucket

_SCOPE = re.compile(r"Credential=([^/]+)/\d{8}/([a-z0-9-]+)/([a-z0-9-]+)/aws4_request")


class Fault(Exception):
    """What the service says instead of doing it; `more`: further members of the error's shape."""

    def __init__(self, code: str, message: str, status: int = 400, **more: Any) -> None:
        super().__init__(f"{code}: {message}")
        self.code, self.message, self.status, self.more = code, message, status, more


class Service:
    name: ClassVar[str]
    refuses_as: ClassVar[str] = "ValidationException"
    """The code for a request that is not what the model says."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.bucket: Bucket | None = None
        self.calls: list[tuple[str, str]] = []
        """Operation and Region of every call that was let in."""
        self.broken: list[str] = []
        """Replies of ours that did not fit the model: there must be none."""
        self.down: set[str] = set()
        """Regions whose endpoint answers 503."""
        self.model = service_model(self.name)
        self._server = _Server(self)
        self._thread = threading.Thread(target=self._server.serve_forever,
                                        kwargs={"poll_interval": 0.02}, daemon=True)

    def throttle(self, on: bool = True) -> None:
        self.bucket = Bucket() if on else None

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)

    def perform(self, operation: OperationModel, params: dict[str, Any],
                region: str) -> dict[str, Any]:
        """Raises Fault."""
        with self.lock:
            if region in self.down:
                raise Fault("ServiceUnavailable", "not now", 503)
            if self.bucket is not None and not self.bucket.take():
                raise Fault("TooManyRequestsException", "rate exceeded", 429)
            method = getattr(self, f"do_{operation.name}", None)
            if method is None:
                raise Fault("UnknownOperationException", operation.name, 404)
            try:
                check(params, operation.input_shape, operation.name)
            except Wrong as error:
                raise Fault(self.refuses_as, str(error)) from None
            self.calls.append((operation.name, region))
            reply = method(params, region) or {}
            if operation.output_shape is not None:
                try:
                    check(reply, operation.output_shape, operation.name)
                except Wrong as error:
                    self.broken.append(str(error))
                    raise Fault("InternalFailure", f"the fake is wrong: {error}", 500) from None
            return reply


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, service: Service) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.service = service

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def answer(self) -> None:
        service = self.server.service
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        if len(body) < length:
            self.close_connection = True  # it was cut off: no request
            return
        try:
            scope = _SCOPE.search(self.headers.get("Authorization") or "")
            if scope is None or "Signature=" not in self.headers["Authorization"]:
                raise Fault("MissingAuthenticationTokenException", "no signature", 403)
            operation, params = self.understood(body)
            reply = service.perform(operation, params, scope[2])
        except Fault as fault:
            self.say(fault.status, *self.refusal(fault), code=fault.code)
            return
        self.say(200, *self.written(operation, reply))

    do_GET = do_POST = do_PUT = do_DELETE = answer

    # --- in --------------------------------------------------------------------------------------

    @property
    def protocol(self) -> str:
        """A service may know several; botocore takes the one that it reads fastest."""
        if self.headers.get("smithy-protocol") == "rpc-v2-cbor":
            return "smithy-rpc-v2-cbor"
        if "X-Amz-Target" in self.headers:
            return "json"
        return str(self.server.service.model.metadata["protocol"])

    def understood(self, body: bytes) -> tuple[OperationModel, dict[str, Any]]:
        model, path = self.server.service.model, urlsplit(self.path).path
        if self.protocol == "json":
            target = (self.headers.get("X-Amz-Target") or "").partition(".")
            if target[0] != model.metadata["targetPrefix"]:
                raise Fault("UnknownOperationException", "no such target", 404)
            return self.named(target[2], lambda shape: from_json(json.loads(body), shape))
        if self.protocol == "smithy-rpc-v2-cbor":
            found = re.fullmatch(r"/service/(\w+)/operation/(\w+)", path)
            if found is None:
                raise Fault("UnknownOperationException", path, 404)
            return self.named(found[2], lambda shape: Cbor(body).value() if body else {})
        for name in model.operation_names:
            operation = model.operation_model(name)
            labels = template_matches(operation.http["requestUri"], path)
            if labels is not None and operation.http["method"] == self.command:
                try:
                    return operation, rest_request(operation, labels, self.path, body,
                                                   xml=self.protocol == "rest-xml")
                except (ValueError, ElementTree.ParseError) as error:
                    raise Fault("SerializationException", str(error)) from None
        raise Fault("UnknownOperationException", path, 404)

    def named(self, name: str, read: Any) -> tuple[OperationModel, dict[str, Any]]:
        model = self.server.service.model
        if name not in model.operation_names:
            raise Fault("UnknownOperationException", name, 404)
        operation = model.operation_model(name)
        try:
            return operation, read(operation.input_shape)
        except (ValueError, KeyError) as error:
            raise Fault("SerializationException", str(error)) from None

    # --- out -------------------------------------------------------------------------------------

    def written(self, operation: OperationModel, reply: dict[str, Any]) -> tuple[bytes, str]:
        shape = operation.output_shape
        if self.protocol == "smithy-rpc-v2-cbor":
            return to_cbor(reply), "application/cbor"
        if self.protocol == "rest-xml":
            root = ElementTree.Element("root")
            to_xml(root, shape.name, reply, shape)
            return ElementTree.tostring(root[0], xml_declaration=True, encoding="UTF-8"), "text/xml"
        document = {} if shape is None else to_json(reply, shape)
        return json.dumps(document).encode(), "application/json"

    def refusal(self, fault: Fault) -> tuple[bytes, str]:
        if self.protocol == "rest-xml":
            root = ElementTree.Element("ErrorResponse")
            error = ElementTree.SubElement(root, "Error")
            for name, text in (("Type", "Sender"), ("Code", fault.code),
                               ("Message", fault.message)):
                ElementTree.SubElement(error, name).text = text
            ElementTree.SubElement(root, "RequestId").text = "r-1"
            return ElementTree.tostring(root), "text/xml"
        document = {"__type": fault.code, "message": fault.message, **fault.more}
        if self.protocol == "smithy-rpc-v2-cbor":
            return to_cbor(document), "application/cbor"
        return json.dumps(document).encode(), "application/json"

    def say(self, status: int, body: bytes, kind: str, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.protocol == "smithy-rpc-v2-cbor":
            self.send_header("smithy-protocol", "rpc-v2-cbor")
        if code and self.protocol == "rest-json":
            self.send_header("x-amzn-ErrorType", code)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Quiet: the tests look at the service's own books."""
