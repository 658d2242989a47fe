"""HTTP and websocket to one server: every response has a deadline and a largest size, no redirect leads elsewhere."""

from __future__ import annotations

import asyncio
import json
import os
import re
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import wait
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
from yarl import URL

from .address import TOKEN_VARIABLE, base_of, read_address
from .errors import LostError, PassingError, RunnerError, ServerError

RESPONSE_SECONDS = 60.0  # for a response, and for the beginning of a file
SLOWEST = 10_000  # bytes per second of a file, after that
MOST_BYTES = 64 << 20  # of a response: a list of all nodes has a few, the queue holds the graphs of all that wait
MOST_FILE_BYTES = 64 << 30
MOST_EVENT_BYTES = 16 << 20
REDIRECTS, MOST_REDIRECTS = (301, 302, 303, 307, 308), 5
PASSING = {408, 425, 429, 500, 502, 503, 504, *range(520, 531)}  # what proxies return for a server that is busy or gone
CREDENTIALS = "put them into the address, http://USER:PASSWORD@HOST, or a bearer token into "
T = TypeVar("T")


class Connection:
    """To one server, from any number of threads; `stop` ends what they wait for."""

    def __init__(self, url: str) -> None:
        self.address = read_address(url)
        self.base = self.address.base  # where a redirect of everything led to
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self.session = self.run(self._open())

    async def _open(self) -> aiohttp.ClientSession:
        trace = aiohttp.TraceConfig()
        trace.on_request_redirect.append(refuse_redirect)  # of a websocket; ours are followed by `_follow`
        return aiohttp.ClientSession(
            headers=self.address.headers,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=RESPONSE_SECONDS / 2),
            proxy=self.address.proxy,
            trace_configs=[trace],
        )

    @property
    def name(self) -> str:
        """How a sentence calls the server."""
        proxy = self.address.proxy
        return self.address.shown + (f" (through the proxy {URL(proxy).host})" if proxy else "")

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Wait for work of the connection's own thread, so that Ctrl-C ends it at once."""
        future = asyncio.run_coroutine_threadsafe(work, self.loop)
        try:
            while not wait([future], 0.2).done:  # without a limit Windows would not notice Ctrl-C
                pass
        except BaseException:
            future.cancel()
            raise
        if future.cancelled():
            raise KeyboardInterrupt
        return future.result()

    def stop(self, announce: Callable[[], object]) -> None:
        """End all that is waited for: KeyboardInterrupt is raised there.

        `announce` lets others know just before; what they ask for because of it is not ended.
        """

        def cancel() -> None:
            announce()
            for task in asyncio.all_tasks(self.loop):
                task.cancel()

        self.loop.call_soon_threadsafe(cancel)

    def close(self) -> None:
        """Let go of everything; nothing can be requested afterwards."""
        if not self.loop.is_closed():
            self.run(self.session.close())
            self.loop.call_soon_threadsafe(self.loop.stop)
            self.thread.join()
            self.loop.close()

    def get(self, path: str, seconds: float | None = None) -> bytes:
        """The response to a GET; raises as `_exchange`."""
        return self._fetch("GET", path, dict, seconds or RESPONSE_SECONDS)

    def post(self, path: str, body: Any, seconds: float | None = None) -> bytes:
        """The response to a POST of JSON."""
        data = json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        return self._fetch("POST", path, lambda: {"data": data, "headers": headers}, seconds or RESPONSE_SECONDS)

    def upload(self, path: str, file: Path, fields: Mapping[str, str]) -> bytes:
        """The response to a form that carries a file, which is sent piece by piece."""

        def form() -> dict[str, Any]:
            data = aiohttp.FormData(fields, quote_fields=False)
            data.add_field(
                "image", file.open("rb"), filename=quoted(file.name), content_type="application/octet-stream"
            )
            return {"data": data}

        return self._fetch("POST", path, form, RESPONSE_SECONDS + file.stat().st_size / SLOWEST)

    def download(self, path: str, query: Mapping[str, str], file: Path) -> None:
        """Write a response to a file piece by piece, however large it is."""

        def write(piece: bytes) -> None:
            try:
                target.write(piece)
            except OSError as error:
                raise RunnerError(f"{file.parent} cannot be written: {error.strerror or error}") from error

        with file.open("wb", buffering=0) as target:
            self.run(self._exchange("GET", path, dict, query, RESPONSE_SECONDS, write, MOST_FILE_BYTES, SLOWEST))

    def _fetch(self, method: str, path: str, body: Callable[[], dict[str, Any]], seconds: float) -> bytes:
        response = bytearray()
        self.run(self._exchange(method, path, body, None, seconds, response.extend, MOST_BYTES))
        return bytes(response)

    async def _exchange(
        self,
        method: str,
        path: str,
        body: Callable[[], dict[str, Any]],
        query: Mapping[str, str] | None,
        seconds: float,
        take: Callable[[bytes], Any],
        most: int,
        slowest: float | None = None,
    ) -> None:
        """One request, followed through redirects on this host; `take` gets the response piece by piece.

        `body` gives what is sent, once for each request. PassingError where it is worth a retry, LostError where
        in addition the request may have been carried out; RunnerError where the server refuses; Refusal for its 400.
        """
        begun = self.loop.time()
        url = URL(f"{self.base}{path}", encoded=True).extend_query({**(query or {}), **self.address.query})
        try:
            for _ in range(MOST_REDIRECTS):
                sending = self.session.request(method, url, allow_redirects=False, **body())
                response = await asyncio.wait_for(sending, seconds)
                async with response:
                    if response.status in REDIRECTS and "Location" in response.headers:
                        url = self._follow(url, path, response.headers["Location"])
                        continue
                    received = 0
                    if response.status != 200:
                        take, most, slowest = (refusal := bytearray()).extend, MOST_BYTES, None
                    while True:
                        allowed = seconds + (received / slowest if slowest else 0) - (self.loop.time() - begun)
                        piece = await asyncio.wait_for(response.content.readany(), max(allowed, 0))
                        if not piece:
                            break
                        received += len(piece)
                        if received > most:
                            raise ServerError(f"{self.name} answers more than {most >> 20} MB to {path}")
                        take(piece)
                    if response.status != 200:
                        self._refuse(response.status, path, bytes(refusal))
                    return
            raise RunnerError(f"{self.name} redirects from one address to the next without an end")
        except asyncio.TimeoutError:
            raise LostError(f"no ComfyUI answers at {self.name}: its answer to {path} takes too long") from None
        except (aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
            raise LostError(f"no ComfyUI answers at {self.name}: the answer broke off") from None
        except aiohttp.ClientSSLError as error:
            raise RunnerError(f"no ComfyUI answers at {self.name}: its certificate is refused ({error})") from None
        except aiohttp.ClientConnectorError as error:
            raise PassingError(f"no ComfyUI answers at {self.name}: {reason(error.os_error)}") from None
        except (aiohttp.ClientError, ValueError):
            raise LostError(f"what answers at {self.name} is not ComfyUI: it does not speak HTTP") from None
        except OSError as error:
            raise LostError(f"no ComfyUI answers at {self.name}: {reason(error)}") from None

    def _follow(self, url: URL, path: str, location: str) -> URL:
        """The address that a redirect leads to; RunnerError when it is another host, or less secret than this one."""
        try:
            target = url.join(URL(location)).with_fragment(None)
        except ValueError:
            raise RunnerError(f"{self.name} redirects to something that is not an address") from None
        place = target.with_user(None).with_query(None)
        shown = str(place)
        is_safer = (target.scheme, url.scheme) == ("https", "http")
        if target.scheme not in ("http", "https") or target.host != url.host:
            raise RunnerError(f"{self.name} redirects to another server, {shown}; if that is yours, name it instead")
        if (url.scheme, target.scheme) == ("https", "http"):
            raise RunnerError(f"{self.name} redirects to {shown}, which is not encrypted; name it if that is meant")
        if self.address.has_secrets and not is_safer and target.origin() != url.origin():
            raise RunnerError(f"{self.name} redirects to {shown}; name that address, so that it gets your credentials")
        if place.raw_path.endswith(path):  # everything lies there; the websocket follows no redirect
            self.base = base_of(place, place.raw_path.removesuffix(path))
        return target

    def _refuse(self, status: int, path: str, text: bytes) -> None:
        """Raise what a response other than 200 means."""
        says = f"{self.name} answers {status} ({reason_of(status)}) to {path}"
        if status == 400:
            raise Refusal(says, text)
        if status in PASSING:
            raise (PassingError if status in (425, 429) else LostError)(f"the server at {says}", status)
        if status in (401, 407):
            raise RunnerError(f"the server at {says}: it wants credentials; {CREDENTIALS}{TOKEN_VARIABLE}")
        if status == 404:
            raise NotFound(f"the server at {says}; does its address lack a path?")
        raise RunnerError(f"the server at {says}")

    def listen(self, client_id: str) -> Listener:
        """A connection for the server's events; OSError where the server or a proxy has none."""
        url = URL(f"{self.base}/ws", encoded=True).with_query({"clientId": client_id, **self.address.query})
        opening = self.session.ws_connect(url, autoclose=False, max_msg_size=MOST_EVENT_BYTES)
        return Listener(self, self.run(connected(asyncio.wait_for(opening, RESPONSE_SECONDS / 2))))


class Listener:
    """The text messages of a websocket that is only read. Raises OSError when it cannot go on."""

    def __init__(self, connection: Connection, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._connection = connection
        self._socket = socket

    def next_text(self, timeout: float) -> str | None:
        """The next text message, or None when none has come for `timeout` seconds."""
        return self._connection.run(connected(self._next_text(timeout)))

    async def _next_text(self, timeout: float) -> str | None:
        with suppress(asyncio.TimeoutError):
            return await asyncio.wait_for(self._first_text(), timeout)
        return None

    async def _first_text(self) -> str:
        while (message := await self._socket.receive()).type is aiohttp.WSMsgType.BINARY:
            pass  # a preview
        if message.type is not aiohttp.WSMsgType.TEXT:
            raise ConnectionError("the server closed the connection")
        return message.data

    def close(self) -> None:
        with suppress(OSError):
            self._connection.run(connected(asyncio.wait_for(self._socket.close(), 1)))


class Refusal(RunnerError):
    """The server's 400, which may explain itself in `text`."""

    def __init__(self, message: str, text: bytes) -> None:
        super().__init__(message)
        self.text = text


class NotFound(RunnerError):
    """The server's 404."""


async def connected(work: Coroutine[Any, Any, T]) -> T:
    """The result of a websocket's work; all that can go wrong is an OSError."""
    try:
        return await work
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
        raise ConnectionError(f"the server takes no websocket here: {type(error).__name__}") from None


async def refuse_redirect(*_: Any) -> None:
    raise aiohttp.ClientError("a websocket is not redirected")


def reason(error: OSError) -> str:
    """Why a connection failed, as the system says it."""
    if error.errno is not None and error.errno > 0:
        return os.strerror(error.errno)
    return error.strerror or type(error).__name__


def reason_of(status: int) -> str:
    """The phrase of a status; a server's own are not to be trusted."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "the server behind a proxy is gone" if 520 <= status <= 530 else "no known status"


def quoted(name: str) -> str:
    """A file name for a form's header, where ComfyUI takes line ends and semicolons for its end."""
    return re.sub(r"[\r\n;]", lambda letter: f"%{ord(letter[0]):02X}", name)
