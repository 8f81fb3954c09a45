"""A chat-completions server on this machine that answers as it is told and keeps what it was asked."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any, NamedTuple


class Reply(NamedTuple):
    body: str
    status: int = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


def completion(text: str | None) -> Reply:
    return Reply(json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}))


@dataclass
class Stub:
    """`answer` is called with the number of the request and its content."""

    answer: Callable[[int, dict[str, Any]], Reply]
    url: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    lock: Lock = field(default_factory=Lock)


@contextmanager
def serving(answer: Callable[[int, dict[str, Any]], Reply]) -> Iterator[Stub]:
    stub = Stub(answer)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with stub.lock:
                number = len(stub.requests)
                stub.requests.append(content)
                stub.headers.append(dict(self.headers))
                stub.paths.append(self.path)
            reply = stub.answer(number, content)
            body = reply.body.encode()
            try:
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)
            except OSError:  # the client has gone
                pass

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    stub.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield stub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
