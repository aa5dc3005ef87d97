"""The HTTP application: routes, limits, metrics, and the page at `/`.

Limits, and the status of the response if one is exceeded:
- MAX_BODY, bytes of one body: 413
- MAX_HELD, bytes of the bodies of all unanswered requests: 503 with Retry-After
- `max_images`, images that are being prepared, are waiting or are being computed: 503 with Retry-After, or 400 if one
  request alone has more images
- `timeout`, seconds for one request: 408 if its body is not complete, else 503
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Optional

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HTTPRequest
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from hrnet.cli import StageError
from serve.batches import Batcher, Prepared
from serve.models import Served
from serve.protocol import JSON_LENGTH, RequestError, Spec, read_request, write_response

SERVER, EXTENSIONS = "hrnet-ascend", ["binary_tensor_data"]
MAX_BODY = 32 << 20  # bytes
MAX_HELD = 256 << 20  # bytes
RETRY_SECONDS = "1"
PAGE = Path(__file__).with_name("page.html")
HEADERS = {  # of the page: they allow only its own script and style, and requests to this server
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}
SECONDS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """The figures of /metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        given: dict[str, Any] = {"registry": self.registry}
        self.requests = Counter("serve_requests", "Infer requests by model and status", ["model", "status"], **given)
        text = "Seconds from the start of an infer request to its response"
        self.seconds = Histogram("serve_request_seconds", text, ["model"], buckets=SECONDS, **given)
        text = "Seconds that an input waited for the device"
        self.queue = Histogram("serve_queue_seconds", text, buckets=SECONDS, **given)
        self.batch = Histogram("serve_batch_images", "Inputs in a batch, without padding", buckets=IMAGES, **given)
        text = "Images that are being prepared, are waiting or are being computed"
        self.pending = Gauge("serve_pending_images", text, **given)

    def observe_batch(self, images: int, waited: Sequence[float]) -> None:
        self.batch.observe(images)
        for seconds in waited:
            self.queue.observe(seconds)


class Unavailable(RequestError):
    """The server is busy or not ready: the client may try again."""

    def __init__(self, text: str) -> None:
        super().__init__(text, 503)


@dataclass
class Server:
    """The state of the server. Only the event loop changes it, except `pending`, which has a lock."""

    models: dict[str, Served]
    platform: str
    facts: dict[str, Any]  # for the page
    load: Callable[[Metrics], Batcher]  # loads the models and computes a first batch; called in a thread
    max_images: int
    timeout: float  # seconds
    failed: Callable[[Exception], None] = lambda error: None  # called if `load` fails
    announce: Callable[[], None] = lambda: None  # called when the server is ready
    metrics: Metrics = field(default_factory=Metrics)
    batcher: Optional[Batcher] = None
    pending: int = 0  # images
    held: int = 0  # bytes

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.metrics.pending.set_function(lambda: self.pending)

    @property
    def ready(self) -> bool:
        return self.batcher is not None and self.batcher.failed is None

    @asynccontextmanager
    async def lifespan(self, app: Starlette) -> AsyncIterator[None]:
        """Load the models while the server already answers. When the server stops, compute the requests that are still
        waiting."""
        loading = asyncio.create_task(self._load())
        yield
        await loading
        if self.batcher:
            await asyncio.to_thread(self.batcher.stop)

    async def _load(self) -> None:
        try:
            batcher = await asyncio.to_thread(self.load, self.metrics)
        except Exception as error:
            self.failed(error)
        else:
            batcher.start()
            self.batcher = batcher
            self.announce()

    def app(self) -> Starlette:
        model = "/v2/models/{model}"
        routes = [
            Route(f"{model}/infer", self.infer, methods=["POST"]),
            Route(model, self.describe_model),
            Route(f"{model}/ready", self.model_ready),
            Route("/v2", self.describe),
            Route("/v2/health/live", self.health_live),
            Route("/v2/health/ready", self.health_ready),
            Route("/metrics", self.show_metrics),
            Route("/", self.page),
        ]
        handlers = {HTTPException: http_error, RequestError: request_error, Exception: internal_error}
        return Starlette(routes=routes, lifespan=self.lifespan, exception_handlers=handlers)

    # --- what the server is ---

    async def describe(self, request: HTTPRequest) -> Response:
        return JSONResponse({"name": SERVER, "version": version(), "extensions": EXTENSIONS})

    async def describe_model(self, request: HTTPRequest) -> Response:
        model = self.find(request)
        sides = {"inputs": [tensor_json(model.input)], "outputs": [tensor_json(output) for output in model.outputs]}
        return JSONResponse({"name": model.name, "platform": self.platform, **sides})

    async def model_ready(self, request: HTTPRequest) -> Response:
        return JSONResponse({"name": self.find(request).name, "ready": self.ready}, 200 if self.ready else 503)

    async def health_live(self, request: HTTPRequest) -> Response:
        return JSONResponse({"live": True})

    async def health_ready(self, request: HTTPRequest) -> Response:
        return JSONResponse({"live": True, "ready": self.ready}, 200 if self.ready else 503)

    async def show_metrics(self, request: HTTPRequest) -> Response:
        return Response(generate_latest(self.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    async def page(self, request: HTTPRequest) -> Response:
        facts = json.dumps(self.facts).replace("<", "\\u003c")  # so that no text ends the script element
        text = PAGE.read_text(encoding="utf-8").replace("FACTS", facts)
        return Response(text, headers=HEADERS, media_type="text/html")

    def find(self, request: HTTPRequest) -> Served:
        name = request.path_params["model"]
        if name not in self.models:
            raise RequestError(f"no such model: {name[:80]} (expected one of {', '.join(self.models)})", 404)
        return self.models[name]

    # --- inference ---

    async def infer(self, request: HTTPRequest) -> Response:
        begun, model = time.perf_counter(), self.find(request)
        try:
            with Ticket(self) as ticket:
                response = await self._respond(request, model, ticket)
        except RequestError as error:
            response = request_error(request, error)
        except StageError as error:  # raised by the runtime or the decoder
            print(f"{model.name}: {error}", file=sys.stderr)
            response = JSONResponse({"error": str(error)}, 500)
        self.metrics.requests.labels(model.name, response.status_code).inc()
        self.metrics.seconds.labels(model.name).observe(time.perf_counter() - begun)
        return response

    async def _respond(self, request: HTTPRequest, model: Served, ticket: Ticket) -> Response:
        body = await receive(request, ticket)
        ticket.late = Unavailable(f"not computed within {self.timeout:g} s")
        if self.batcher is None:
            raise Unavailable("the model is being loaded")
        ticket.add_images(1)
        work = partial(prepare, model, body, request.headers.get(JSON_LENGTH), ticket)
        (asked, context), results = await self.batcher.submit(work)
        if model.slow_answer:
            outputs = await asyncio.to_thread(model.answer, context, results)
        else:
            outputs = model.answer(context, results)
        text, json_length = write_response(model.name, asked, outputs)
        if json_length is None:
            return Response(text, media_type="application/json")
        return Response(text, headers={JSON_LENGTH: str(json_length)}, media_type="application/octet-stream")


class Ticket:
    """Counts the images and bytes of one infer request and limits its time. A context manager in the request's task;
    after the server's timeout it cancels the task and raises `late`."""

    def __init__(self, server: Server) -> None:
        self.server, self.images, self.bytes, self.open = server, 0, 0, True
        self.late: RequestError = RequestError("the body did not arrive in time", 408)
        self.expired = False

    def __enter__(self) -> Ticket:
        self.task = asyncio.current_task()
        self.timer = asyncio.get_running_loop().call_later(self.server.timeout, self._expire)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self.timer.cancel()
        with self.server.lock:
            self.open = False
            self.server.pending -= self.images
        self.server.held -= self.bytes
        if kind is asyncio.CancelledError and self.expired:
            raise self.late

    def _expire(self) -> None:
        assert self.task is not None
        self.expired = True
        self.task.cancel()

    def add_bytes(self, count: int) -> None:
        """Add received bytes. Raises Unavailable if the unanswered requests have too many bytes."""
        self.bytes += count
        self.server.held += count
        if self.server.held > MAX_HELD:
            raise Unavailable("too many large requests at once")

    def add_images(self, count: int) -> None:
        """Add images; may be called in any thread. Raises Unavailable if there would be too many images."""
        with self.server.lock:
            if not self.open or self.server.pending + count > self.server.max_images:
                raise Unavailable(f"busy: {self.server.pending} of {self.server.max_images} images are being processed")
            self.images += count
            self.server.pending += count


async def receive(request: HTTPRequest, ticket: Ticket) -> bytearray:
    """The body. Raises RequestError if it is too large or compressed, or if the client disconnects, and Unavailable if
    the unanswered requests have too many bytes."""
    if encoding := request.headers.get("content-encoding"):
        raise RequestError(f"unsupported Content-Encoding: {encoding[:80]} (expected none)", 415)
    body, size = bytearray(), 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size <= MAX_BODY:  # the rest is read too, since a client that is still sending would not see the answer
                body += chunk
                ticket.add_bytes(len(chunk))
    except ClientDisconnect:
        raise RequestError("the client disconnected") from None
    if size > MAX_BODY:
        raise RequestError(f"the body is too large (expected at most {MAX_BODY} bytes, found {size})", 413)
    return body


def prepare(model: Served, body: bytearray, json_length: Optional[str], ticket: Ticket) -> Prepared:
    """Read a request and prepare its rows. `context` of the result: the request, and the model's own context for
    `answer`. Raises RequestError."""
    asked = read_request(body, json_length, model.input, [output.name for output in model.outputs])
    if len(asked.values) > ticket.server.max_images:
        raise RequestError(f"too many images in a request (expected at most {ticket.server.max_images})")
    ticket.add_images(len(asked.values) - 1)
    rows, context = model.prepare(asked.values)
    return Prepared(rows, (asked, context))


def version() -> str:
    try:
        return metadata.version(SERVER)
    except metadata.PackageNotFoundError:
        return "not installed"  # on a board, the files of a bundle are not an installed package


def tensor_json(spec: Spec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype, "shape": spec.shape}


def request_error(request: HTTPRequest, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"Retry-After": RETRY_SECONDS} if error.status == 503 else None
    return JSONResponse({"error": str(error)}, error.status, headers)


def http_error(request: HTTPRequest, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code, error.headers)


def internal_error(request: HTTPRequest, error: Exception) -> Response:
    return JSONResponse({"error": f"internal error: {type(error).__name__}"}, 500)
