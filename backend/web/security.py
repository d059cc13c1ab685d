"""The guard of a local server that a browser talks to: host, origin, API key, rate limit.

A page on any web site can make its visitor's browser send requests to this machine, and DNS rebinding can even give
such a page this server's answers. So every request must name a host that is ours, every write that comes from a page
must come from a page of ours, and where a key is set, it must be there.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import threading
import time
from collections import deque
from collections.abc import Callable

from flask import Flask, Request, g, request
from flask_cors import CORS

from errors import ForbiddenHostError, ForbiddenOriginError, RateLimitedError, UnauthorizedError
from settings import Settings
from work.jobs import EVERYONE, Caller

_HOST = re.compile(r"(?P<name>\[[0-9a-f:.]+\]|[a-z0-9._-]+)(:[0-9]{1,5})?", re.IGNORECASE)
OPEN_PATHS = frozenset({"/api/health", "/api/ready", "/health"})
"""What needs no key, beside the page's own files: who does not know the key may ask whether the server lives."""
UNCOUNTED_PATHS = ("/api/job-status/", "/status/")
"""Polling a job costs nothing, and a client that is made to poll must not be locked out by the rate limit."""
_ALLOWED_HEADERS = [
    "Content-Type",
    "Cache-Control",
    "Pragma",
    "Authorization",
    "X-API-Key",
    "ngrok-skip-browser-warning",
]


class RateLimiter:
    """At most `limit` calls per address in any minute."""

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._lock = threading.Lock()
        self._calls: dict[str, deque[float]] = {}

    def retry_after(self, address: str) -> float:
        """0 when the call may pass, and it is counted; else the seconds until one may."""
        now = self._clock()
        with self._lock:
            if len(self._calls) > 10_000:  # forget addresses that have been quiet
                self._calls = {a: calls for a, calls in self._calls.items() if calls[-1] > now - 60}
            calls = self._calls.setdefault(address, deque())
            while calls and calls[0] <= now - 60:
                calls.popleft()
            if len(calls) >= self._limit:
                return calls[0] + 60 - now
            calls.append(now)
            return 0.0


class Guard:
    """Decides on every request before any route sees it, and notes in `g.caller` who asks."""

    def __init__(self, settings: Settings, page_files: frozenset[str]) -> None:
        """`page_files`: the paths of the page's own files."""
        self._settings = settings
        self._open_paths = OPEN_PATHS | page_files
        self._callers = [
            (key.encode(), Caller(hashlib.sha256(key.encode()).hexdigest()[:32], first=number == 0))
            for number, key in enumerate(settings.api_keys)
        ]
        self._wildcard = settings.host in ("0.0.0.0", "::")
        names = ("localhost", "127.0.0.1", "[::1]")
        own = {f"http://{name}:{settings.port}" for name in names} if settings.port else set()
        if settings.port == 80:
            own |= {f"http://{name}" for name in names}
        self._any_origin = "*" in settings.cors_origins
        self.origins = frozenset(own | (set(settings.cors_origins) - {"*"}))
        self._limiter = RateLimiter(settings.rate_limit_per_minute) if settings.enable_rate_limiting else None

    def install(self, app: Flask) -> None:
        """Put the guard and CORS on the app."""
        CORS(
            app,
            # Patterns, as the extension takes the brackets of [::1] for one.
            origins="*" if self._any_origin else [re.compile(re.escape(origin) + r"\Z") for origin in self.origins],
            allow_headers=_ALLOWED_HEADERS,
            methods=["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"],
            expose_headers=["Content-Disposition", "ETag", "Retry-After"],
            max_age=600,
        )
        app.before_request(self.check)

    def check(self) -> None:
        """Raise a RequestError unless the request may pass."""
        if not self._host_is_ours(request):
            raise ForbiddenHostError
        if request.method == "OPTIONS":  # preflights carry no key and change nothing
            return
        if request.method not in ("GET", "HEAD") and not self._comes_from_ours(request):
            raise ForbiddenOriginError
        g.caller = EVERYONE
        if request.path in self._open_paths:
            return
        if self._callers:
            g.caller = self._caller(request)
        self._check_rate(request)

    def _host_is_ours(self, req: Request) -> bool:
        match = _HOST.fullmatch(req.environ.get("HTTP_HOST", ""))
        if match is None:
            return False
        name = match["name"].lower()
        if name in ("localhost", self._settings.host.lower(), f"[{self._settings.host.lower()}]"):
            return True
        try:
            address = ipaddress.ip_address(name.strip("[]"))
        except ValueError:  # names of other sites, numbers such as 2130706433
            return False
        # Bound to every interface, any address reaches us; rebinding needs a name, never an address.
        return address.is_loopback or self._wildcard

    def _comes_from_ours(self, req: Request) -> bool:
        origin = req.headers.get("Origin")
        if origin is None:
            return req.headers.get("Sec-Fetch-Site", "none") in ("same-origin", "none")
        own_host = req.environ["HTTP_HOST"].lower()
        same = origin.lower() in (f"http://{own_host}", f"https://{own_host}")
        return same or self._any_origin or origin.lower() in self.origins

    def _caller(self, req: Request) -> Caller:
        scheme, _, token = req.headers.get("Authorization", "").partition(" ")
        given = (token.strip() if scheme.lower() == "bearer" else req.headers.get("X-API-Key", "")).encode()
        for key, caller in self._callers:
            if hmac.compare_digest(given, key):
                return caller
        raise UnauthorizedError

    def _check_rate(self, req: Request) -> None:
        if self._limiter is None or req.path.startswith(UNCOUNTED_PATHS):
            return
        wait = self._limiter.retry_after(req.remote_addr or "")
        if wait:
            raise RateLimitedError("too many requests", {"retry_after": int(wait) + 1})
