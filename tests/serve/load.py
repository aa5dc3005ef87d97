"""Clients of a server process."""

from __future__ import annotations

import http.client
import json
import threading
import time

from tests.serve.chain import Running, image
from tests.support.processes import SECONDS

IMAGE = image(1)


class Load:
    """Clients, each with one connection, that send one image after another on it until the server closes it."""

    def __init__(self, running: Running, clients: int) -> None:
        self.address, self.stopped = running.address, threading.Event()
        self.answered, self.broken = 0, 0
        self.lock = threading.Lock()
        head = {"name": "image", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": 4 + len(IMAGE)}}
        self.head = json.dumps({"inputs": [head]}).encode()
        self.threads = [threading.Thread(target=self.work) for _ in range(clients)]
        for thread in self.threads:
            thread.start()

    def work(self) -> None:
        headers = {"Inference-Header-Content-Length": str(len(self.head))}
        data = self.head + len(IMAGE).to_bytes(4, "little") + IMAGE
        connection = http.client.HTTPConnection(self.address, timeout=SECONDS)
        closed = False
        while not (closed or self.stopped.is_set()):
            try:
                connection.request("POST", "/v2/models/small/infer", data, headers)
                response = connection.getresponse()
                right = response.status == 200 and json.loads(response.read())["outputs"][0]["shape"] == [1, 10]
                closed = response.getheader("Connection") == "close"
            except (ConnectionError, http.client.HTTPException):
                right, closed = False, True
            with self.lock:
                self.answered, self.broken = self.answered + right, self.broken + (not right)
        connection.close()

    def wait_for(self, count: int) -> None:
        deadline = time.monotonic() + SECONDS
        while self.answered < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def join(self) -> None:
        for thread in self.threads:
            thread.join(SECONDS)
            assert not thread.is_alive()
