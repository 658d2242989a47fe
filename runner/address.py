"""The address of a server as people type it, and what of it may be shown."""

from __future__ import annotations

import os
import re
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from .errors import RunnerError

TOKEN_VARIABLE = "PYRAMID_VIDEO_TOKEN"
SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
LOOPBACK = re.compile(r"localhost|127\.[0-9.]+|::1", re.IGNORECASE)


@dataclass(frozen=True)
class Address:
    """Where a server is, and the secrets of every request to it, which are never shown."""

    base: str  # scheme, host, port and path, without a slash at its end
    query: Mapping[str, str]  # goes along with every request, such as `token` of a notebook's proxy
    headers: Mapping[str, str]
    shown: str  # without user, password and query

    @property
    def has_secrets(self) -> bool:
        return bool(self.query or self.headers)

    @property
    def proxy(self) -> str | None:
        """The proxy that the environment names for this server; a server on this computer is reached directly."""
        host = URL(self.base).host or ""
        if LOOPBACK.fullmatch(host) or proxy_bypass(host):
            return None
        named = getproxies().get(URL(self.base).scheme)
        if named is None:
            return None
        scheme, parted, _ = named.partition("://")
        if parted and scheme not in ("http", "https"):
            raise RunnerError(
                f"the environment names a proxy of the kind {scheme}, which is not supported; use http://"
            )
        return named if parted else f"http://{named}"


def read_address(text: str) -> Address:
    """Read `http://user:password@host:8188/path/?token=abc#anything`; all but the host may be left out.

    A bearer token is read from the environment variable PYRAMID_VIDEO_TOKEN. Raises RunnerError for what is no address.
    """
    full = text.strip() if "://" in text else f"http://{text.strip()}"
    try:
        scheme = SCHEMES[urlsplit(full).scheme.lower()]
        url = URL(full)
        if not url.host or not url.host.isprintable() or " " in url.host:
            raise ValueError("it names no host")
    except KeyError:
        raise RunnerError(
            f"{without_secrets(full)} is not the address of a server; one begins with http:// or https://"
        ) from None
    except ValueError as error:
        reason = "" if "@" in full else f": {error}"  # it may quote a password
        raise RunnerError(f"{without_secrets(full)} is not an address such as http://127.0.0.1:8188{reason}") from None
    headers = {}
    if url.user is not None:
        secret = f"{url.user}:{url.password or ''}".encode()
        headers["Authorization"] = f"Basic {b64encode(secret).decode()}"
    elif token := os.environ.get(TOKEN_VARIABLE):
        headers["Authorization"] = f"Bearer {token.strip()}"
    base = base_of(url.with_scheme(scheme), url.raw_path)
    return Address(base, dict(url.query), headers, URL(base).human_repr().rstrip("/"))


def base_of(url: URL, path: str) -> str:
    """The beginning of an address, up to and with the path."""
    return f"{url.origin()}{path.rstrip('/')}"


def without_secrets(text: str) -> str:
    """An address without user, password, query and fragment, also one that cannot be read."""
    scheme, _, rest = text.partition("://")
    return f"{scheme}://{re.split('[?#]', rest.rpartition('@')[2])[0]}".rstrip("/")
