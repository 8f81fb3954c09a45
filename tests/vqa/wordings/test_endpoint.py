"""One request, its reply; what passes is tried again, what does not ends with one clear error; the key stays secret."""

import json
import socket
from threading import Event, Timer

import pytest
from stub_endpoint import Reply, completion, serving

from voxmoe.errors import EndpointError
from voxmoe.vqa.wordings.endpoint import Endpoint

REQUEST = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
KEY = "sk-very-secret"


@pytest.fixture(autouse=True)
def _directly(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy stands between, and no key comes from outside."""
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def endpoint(url: str, **other: float) -> Endpoint:
    return Endpoint(url, **{"timeout_s": 5, "first_wait_s": 0.001, **other})


def test_a_reply(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {KEY}\n")
    with serving(lambda number, request: completion("Q: é")) as stub:
        assert endpoint(stub.url).complete(REQUEST) == "Q: é"
        assert endpoint(f"{stub.url}/").complete(REQUEST) == "Q: é"
        assert endpoint(f"{stub.url}/chat/completions").complete(REQUEST) == "Q: é"
    assert stub.requests == [REQUEST] * 3
    assert set(stub.paths) == {"/v1/chat/completions"}
    assert {headers["Authorization"] for headers in stub.headers} == {f"Bearer {KEY}"}


def test_no_key_is_no_header() -> None:
    with serving(lambda number, request: completion(None)) as stub:
        assert endpoint(stub.url).complete(REQUEST) == "", "a model may refuse to say anything"
    assert "Authorization" not in stub.headers[0]


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_busy_then_answering(status: int) -> None:
    with serving(lambda number, request: completion("x") if number == 2 else Reply("busy", status)) as stub:
        assert endpoint(stub.url).complete(REQUEST) == "x"
    assert len(stub.requests) == 3


def test_the_servers_wish_is_heeded() -> None:
    waited: list[float] = []

    class Impatient(Event):
        def wait(self, timeout: float | None = None) -> bool:
            waited.append(timeout or 0)
            return False

    wishes = ["7", "soon", "1000"]

    def busy(number: int, request: object) -> Reply:
        return Reply("{}", 429, {"Retry-After": wishes[number]}) if number < 3 else completion("x")

    with serving(busy) as stub:
        assert Endpoint(stub.url, first_wait_s=3, stop=Impatient()).complete(REQUEST) == "x"
    assert waited == [7, 6, 120]


def test_giving_up() -> None:
    over = Reply('{"error": {"message": "over quota"}}', 429)
    with (
        serving(lambda number, request: over) as stub,
        pytest.raises(EndpointError, match="429: over quota, 4 times in a row"),
    ):
        endpoint(stub.url, attempts=4).complete(REQUEST)
    assert len(stub.requests) == 4


def test_stopped_while_it_waits() -> None:
    with serving(lambda number, request: Reply("", 500)) as stub:
        waiting = endpoint(stub.url, first_wait_s=60)
        Timer(0.05, waiting.stop.set).start()
        with pytest.raises(EndpointError, match="500: nothing, 1 times"):
            waiting.complete(REQUEST)


def test_silence() -> None:
    done = Event()

    def silent(number: int, request: object) -> Reply:
        if number == 0:
            done.wait(5)
        return completion("late")

    with serving(silent) as stub:
        assert endpoint(stub.url, timeout_s=0.5).complete(REQUEST) == "late"
        done.set()
    assert len(stub.requests) >= 2
    done.clear()
    with serving(lambda number, request: completion(str(done.wait(5)))) as stub:
        with pytest.raises(EndpointError, match=r"no reply within 0\.1 s, 2 times in a row"):
            endpoint(stub.url, timeout_s=0.1, attempts=2).complete(REQUEST)
        done.set()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (Reply('{"error": {"message": "bad key"}}', 401), "401: bad key; put a valid key into .*OPENAI_API_KEY"),
        (Reply('{"error": "no rights"}', 403), "403: no rights; check what the key"),
        (
            Reply('{"error": {"message": "The model `m` does not exist"}}', 404),
            "`m` does not exist; check --model, and",
        ),
        (Reply('{"message": "model not found"}', 404), "404: model not found; check --model"),
        (Reply("Not Found", 404), "404: Not Found; .*the address of an OpenAI-compatible API"),
        (Reply('{"error": {"message": "temperature is too high"}}', 400), "400: temperature is too high; check"),
        (Reply('["odd"]', 400), "400: .*odd"),
        (Reply("", 302, {"Location": "http://elsewhere/v1"}), "302: nothing; it redirects elsewhere"),
        (Reply("<html> A  page </html>"), "not JSON: <html> A page </html>; --endpoint has to be"),
        (Reply('{"choices": []}'), "no chat completion"),
        (Reply('{"error": {"message": "quota"}}'), "no chat completion: quota"),
        (Reply("[1]"), "no chat completion"),
    ],
)
def test_what_does_not_pass_is_told_at_once(reply: Reply, message: str) -> None:
    with serving(lambda number, request: reply) as stub, pytest.raises(EndpointError, match=message):
        endpoint(stub.url).complete(REQUEST)
    assert len(stub.requests) == 1


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_nobody_there() -> None:
    with pytest.raises(EndpointError, match=r"cannot be reached \(.*refused\); check --endpoint"):
        endpoint(f"http://127.0.0.1:{free_port()}/v1").complete(REQUEST)


def test_a_server_that_answered_before_is_waited_for() -> None:
    with serving(lambda number, request: completion("x")) as stub:
        asking = endpoint(stub.url, attempts=3)
        asking.complete(REQUEST)
    with pytest.raises(EndpointError, match=r"the connection failed \(.*refused\), 3 times in a row"):
        asking.complete(REQUEST)


@pytest.mark.parametrize(
    "url",
    ["host/v1", "file:///etc/passwd", "ftp://host/v1", "https://", "https://user:pw@host/v1", "http://host/v1?k=1"],
)
def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(EndpointError, match="not the address of an API: give one such as") as told:
        Endpoint(url)
    assert "pw" not in str(told.value)


def test_the_key_is_in_no_message(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    said = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}."}})
    with serving(lambda number, request: Reply(said, 401)) as stub, pytest.raises(EndpointError) as told:
        endpoint(stub.url).complete(REQUEST)
    assert KEY not in str(told.value)
    assert "provided: ***." in str(told.value)
    assert KEY not in repr(endpoint(stub.url))
    monkeypatch.setenv("OPENAI_API_KEY", "sk\nX-Other: 1")
    with pytest.raises(EndpointError, match="has characters that no key has") as told:
        endpoint(stub.url).complete(REQUEST)
    assert "X-Other" not in str(told.value)
