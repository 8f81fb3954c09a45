"""A chat model behind any OpenAI-compatible endpoint: one request in, the text of its reply out.

The key is read from the environment and goes into the request's header alone: it is in no message and no file.
Redirects are not followed, so that it goes to no other host.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPException, HTTPMessage
from threading import Event
from typing import IO, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from voxmoe.errors import EndpointError

KEY_VARIABLE = "OPENAI_API_KEY"
_PATH = "/chat/completions"
_TOO_MANY = 429
_LONGEST_WAIT_S = 120.0
_SHOWN = 200
"""Characters of a server's own message that are shown."""


class _NoRedirects(HTTPRedirectHandler):
    def redirect_request(
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> None:
        return None


class _PassingError(Exception):
    """A request failed in a way that may pass; after how many seconds the server wants to be asked again."""

    def __init__(self, reason: str, after_s: float | None = None) -> None:
        super().__init__(reason)
        self.after_s = after_s


@dataclass
class Endpoint:
    """The address of an API, such as https://host/v1, and how patiently it is asked."""

    url: str
    timeout_s: float = 600.0
    """For one reply; a hundred questions take a model a minute or more."""
    attempts: int = 6
    first_wait_s: float = 2.0
    """Doubled after each attempt that failed; a server's own wish is heeded."""
    stop: Event = field(default_factory=Event)
    """Set from elsewhere, it ends waiting."""
    _answered: bool = False

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.username or parts.query:
            raise EndpointError(
                f"not the address of an API: give one such as https://host/v1 or http://localhost:8000/v1, and the key "
                f"in the environment variable {KEY_VARIABLE}"
            )
        base = self.url.rstrip("/")
        self.url = base if base.endswith(_PATH) else base + _PATH

    def complete(self, request: Mapping[str, Any]) -> str:
        """The text of the reply to a chat-completions request.

        Tries again, ever later, when the server is busy (429), fails (5xx) or is silent. Raises `EndpointError` when it
        gives up, and at once when asking again would be of no use.
        """
        for attempt in range(self.attempts):
            try:
                text = self._asked(request)
            except _PassingError as failure:
                if attempt == self.attempts - 1 or self.stop.wait(self._wait_s(attempt, failure)):
                    raise EndpointError(f"{self.url}: {failure}, {attempt + 1} times in a row") from None
            else:
                self._answered = True
                return text
        raise AssertionError

    def _wait_s(self, attempt: int, failure: _PassingError) -> float:
        asked = failure.after_s or 0.0
        return min(_LONGEST_WAIT_S, max(asked, self.first_wait_s * 2.0**attempt))

    def _asked(self, request: Mapping[str, Any]) -> str:
        headers = {"Content-Type": "application/json", "User-Agent": "voxmoe", **_authorisation()}
        asked = Request(self.url, json.dumps(request).encode(), headers)
        try:
            with build_opener(_NoRedirects).open(asked, timeout=self.timeout_s) as reply:
                content = reply.read()
        except HTTPError as error:
            with error:
                raise self._refusal(error.code, error.read(), error.headers) from None
        except TimeoutError:
            raise self._silence() from None
        except URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._silence() from None
            raise self._broken(error.reason) from None
        except (OSError, HTTPException) as error:
            raise self._broken(error) from None
        return self._text(content)

    def _silence(self) -> _PassingError:
        return _PassingError(f"no reply within {self.timeout_s:g} s")

    def _broken(self, reason: object) -> Exception:
        """A server that answered before may come back; one that never did has another address."""
        if self._answered:
            return _PassingError(f"the connection failed ({reason})")
        return EndpointError(f"{self.url}: cannot be reached ({reason}); check --endpoint, and that the server runs")

    def _refusal(self, code: int, content: bytes, headers: Message) -> Exception:
        said = f"{code}: {_said(content)}"
        if code == _TOO_MANY or code >= 500:
            return _PassingError(said, _seconds(headers.get("Retry-After")))
        advice = {
            301: "it redirects elsewhere; give that address with --endpoint",
            401: f"put a valid key into the environment variable {KEY_VARIABLE}",
            403: f"check what the key in the environment variable {KEY_VARIABLE} may do",
            404: "check --model, and that --endpoint is the address of an OpenAI-compatible API, such as https://host/v1",
        }.get(301 if 300 <= code < 400 else code, "check --model and the other settings")
        return EndpointError(f"{self.url}: {said}; {advice}")

    def _text(self, content: bytes) -> str:
        try:
            text = json.loads(content)["choices"][0]["message"]["content"]
        except ValueError:
            raise EndpointError(
                f"{self.url}: answered with something that is not JSON: {_said(content)}; --endpoint has to be the "
                "address of an OpenAI-compatible API, such as https://host/v1"
            ) from None
        except (LookupError, TypeError):
            raise EndpointError(f"{self.url}: the answer is no chat completion: {_said(content)}") from None
        return text if isinstance(text, str) else ""


def _key() -> str:
    return os.environ.get(KEY_VARIABLE, "").strip()


def _authorisation() -> dict[str, str]:
    """Servers on one's own machine need no key."""
    key = _key()
    if not (key.isascii() and key.isprintable()):
        raise EndpointError(f"the key in the environment variable {KEY_VARIABLE} has characters that no key has")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _said(content: bytes) -> str:
    """What a server says in its own words, short, on one line and without the key."""
    text = content.decode(errors="replace")
    try:
        told = json.loads(text)
        error = told.get("error", told)
        text = error if isinstance(error, str) else error.get("message") or text
    except (ValueError, AttributeError):
        pass
    text = " ".join(str(text).split())
    return (text.replace(key, "***") if (key := _key()) else text)[:_SHOWN] or "nothing"


def _seconds(header: str | None) -> float | None:
    try:
        return float(header or "")
    except ValueError:  # a date, or nothing
        return None
