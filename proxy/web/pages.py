"""The web pages chat, compare, usage, dashboard, keys and experiments, their login and files.

The files in `ui/` are read at startup and served unchanged: no build, no template language,
nothing from other origins. A page is the content of <main>, inserted into `ui/shell.html`, and the
module `ui/NAME.js`. Pages use /v1 and /api like any other client.

Model answers are untrusted input, so the content security policy allows only the proxy's own files.
"""

import asyncio
import gzip
import hashlib
import html
import math
import re
from collections.abc import Mapping, Sequence
from enum import StrEnum
from functools import cache, partial
from pathlib import Path
from posixpath import dirname, join, normpath
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler

from proxy.auth import SESSION_COOKIE, SESSION_SECONDS, LoginLimiter, is_admin
from proxy.errors import NotAuthenticated, NotFound
from proxy.gateway import Gateway
from proxy.web.small_bodies import read_small_body

UI: Final = Path(__file__).with_name("ui")
CHARTS: Final = "vendor/plotly.js"
MAX_FORM_BYTES: Final = 64 * 1024

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# Only the sanitizer may create HTML, except on pages with charts, which render no model text.
_TRUSTED: Final = "; require-trusted-types-for 'script'; trusted-types dompurify"
_IMPORT: Final = re.compile(r"""^(?:import|export)\s[^'"()=;]*['"](\.\.?/[^'"]+)['"]""", re.M)
_GUARDS: Final = {
    "x-content-type-options": "nosniff",
    # With "no-referrer" a form would be sent with the origin "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Page(NamedTuple):
    """A page of the menu.

    Attributes:
        styles: the names of its stylesheets, after `style.css`.
        for_admins: whether it shows the requests of all clients.
        draws_charts: whether it uses the chart library, which creates HTML of its own.
        for_keys: whether it shows those of the caller's API key, so that it needs one.
    """

    path: str
    name: str
    title: str
    styles: tuple[str, ...] = ()
    for_admins: bool = False
    for_keys: bool = False
    draws_charts: bool = False

    @property
    def policy(self) -> str:
        return _POLICY if self.draws_charts else _POLICY + _TRUSTED


PAGES: Final = (
    Page("/", "chat", "Chat", ("prose", "chat", "other-answer")),
    Page("/compare", "compare", "Compare", ("prose", "other-answer", "compare")),
    Page("/usage", "usage", "Usage", ("dashboard", "keys"), for_keys=True),
    Page(
        "/dashboard",
        "dashboard",
        "Dashboard",
        ("dashboard", "threshold-card", "details", "keys"),
        for_admins=True,
        draws_charts=True,
    ),
    Page("/keys", "keys", "Keys", ("keys",), for_admins=True),
    Page(
        "/experiments",
        "experiments",
        "Experiments",
        ("experiments",),
        for_admins=True,
        draws_charts=True,
    ),
)
_LOGIN: Final = Page("/login", "login", "Sign in")


class Role(StrEnum):
    """Who opens a page: anyone on a proxy without keys, an admin, or the holder of a key."""

    ANYONE = "anyone"
    ADMIN = "admin"
    HOLDER = "holder"


MENUS: Final[Mapping[Role, Sequence[Page]]] = {
    Role.ANYONE: tuple(page for page in PAGES if not page.for_keys),
    Role.ADMIN: PAGES,
    Role.HOLDER: tuple(page for page in PAGES if not page.for_admins),
}


class File(NamedTuple):
    """A file with its compressed form and its ETag."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


def read_file(content: bytes, media_type: str) -> File:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return File(content, gzip.compress(content, 9, mtime=0), media_type, f'"{digest}"')


@cache
def read_files(folder: Path = UI) -> dict[str, File]:
    """The files below /ui/, by name."""
    return {
        name: read_file(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES and (name := path.relative_to(folder).as_posix()) != CHARTS
    }


@cache
def read_charts() -> File:
    """The chart library. Compressing it takes a tenth of a second, so it is read on first use."""
    return read_file((UI / CHARTS).read_bytes(), _TYPES[".js"])


@cache
def find_modules(entry: str) -> tuple[str, ...]:
    """A module and all that it imports statically, by their names below /ui/."""
    found = [entry]
    for name in found:  # it grows
        text = (UI / name).read_text(encoding="utf-8")
        imported = (normpath(join(dirname(name), path)) for path in _IMPORT.findall(text))
        found += dict.fromkeys(path for path in imported if path not in found)
    return tuple(found)


def _load_scripts(page: Page) -> str:
    """The tags that load the module of a page.

    A browser learns of an import when it has read the module with it. Told of all of them at once,
    it waits for one round of requests, not for one per level.
    """
    entry = f"{page.name}.js"
    if not (UI / entry).exists():
        return ""
    preloads = [f'<link rel="modulepreload" href="/ui/{name}">' for name in find_modules(entry)]
    return "\n".join([*preloads, f'<script type="module" src="/ui/{entry}"></script>'])


def render(
    page: Page,
    menu: Sequence[Page],
    *,
    is_demo: bool = False,
    values: Mapping[str, str] | None = None,
) -> bytes:
    """Render a page: its content in the shell, with escaped values for {{name}}.

    Args:
        menu: the pages that the caller may open.
        is_demo: whether stand-in models answer, which every page then says.
    """
    links = "".join(
        f'<a href="{item.path}"{" aria-current=page" if item is page else ""}>{item.title}</a>'
        for item in menu
    )
    filled = (UI / "shell.html").read_text(encoding="utf-8")
    parts = {
        "banner": (UI / "demo-banner.html").read_text(encoding="utf-8") if is_demo else "",
        "title": page.title,
        "name": page.name,
        "menu": f'<nav aria-label="Pages">{links}</nav>' if menu else "",
        "home": ' href="/"' if menu else "",
        "styles": "\n".join(
            f'<link rel="stylesheet" href="/ui/{name}.css">' for name in page.styles
        ),
        "scripts": _load_scripts(page),
        "content": (UI / f"{page.name}.html").read_text(encoding="utf-8"),
    }
    for name, text in parts.items():
        filled = filled.replace("{{" + name + "}}", text)
    for name, text in (values or {}).items():
        filled = filled.replace("{{" + name + "}}", html.escape(text))
    return filled.encode()


def routes(
    gateway: Gateway,
    *,
    body_seconds: float,
    is_demo: bool = False,
    guesses: LoginLimiter | None = None,
) -> list[ControllerRouterHandler]:
    """The handlers of the pages and their files.

    Args:
        body_seconds: how long a client may take to send the login form.
        is_demo: whether stand-in models answer.
        guesses: limits wrong keys at the login; by default as in production.
    """
    guesses = guesses or LoginLimiter()
    files = read_files()
    rendered = {
        (page, role): read_file(render(page, menu, is_demo=is_demo), "text/html; charset=utf-8")
        for role, menu in MENUS.items()
        for page in (PAGES if role is Role.ANYONE else menu)
    }
    login_page = partial(_login_page, is_demo=is_demo)

    @get([page.path for page in PAGES], name="page")
    async def show_page(request: Request[Any, Any, Any]) -> Response[bytes]:
        page = next(item for item in PAGES if item.path == request.scope["path"])
        keys, role = gateway.snapshot.keys, Role.ANYONE
        if keys.required:
            client = keys.read_session(_headers(request))
            if client is None:
                return _redirect(f"/login?next={quote(_path_and_query(request), safe='/')}")
            role = Role.ADMIN if is_admin(client) else Role.HOLDER
        if (file := rendered.get((page, role))) is None:
            return _redirect(f"/usage?from={page.name}")
        # The menu is the caller's, who may change with the cookie.
        headers = {"content-security-policy": page.policy, "vary": "accept-encoding, cookie"}
        return _serve(request, file, headers)

    @get("/ui/{name:path}", name="ui")
    async def show_file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        name = name.removeprefix("/")
        file = await asyncio.to_thread(read_charts) if name == CHARTS else files.get(name)
        if file is None:
            raise NotFound("The file does not exist.")
        return _serve(request, file)

    @get("/login")
    async def ask_for_key(
        request: Request[Any, Any, Any],
        next: FromQuery[str] = "/",  # noqa: A002
    ) -> Response[bytes]:
        keys = gateway.snapshot.keys
        if not keys.required or keys.read_session(_headers(request)) is not None:
            return _redirect(_own_page(next))
        return login_page(_own_page(next))

    @post("/login")
    async def log_in(request: Request[Any, Any, Any]) -> Response[bytes]:
        # The only body that is read before a key is known.
        body = await read_small_body(request, seconds=body_seconds, max_bytes=MAX_FORM_BYTES)
        form = parse_qs(body.decode("utf-8", "replace"))
        key, target = (form.get(name, [""])[-1] for name in ("key", "next"))
        address = request.client.host if request.client is not None else ""
        if seconds := guesses.seconds_left(address):
            error = f"Too many wrong keys. Retry in {math.ceil(seconds)} seconds."
            return login_page(_own_page(target), error=error, retry_seconds=seconds)
        try:
            session = gateway.snapshot.keys.log_in(key, _headers(request))
        except NotAuthenticated as error:
            guesses.count_wrong_guess(address)
            return login_page(_own_page(target), error=error.message)
        response = _redirect(_own_page(target))
        _set_session(response, session, SESSION_SECONDS, is_secure=_is_secure(request))
        return response

    @post("/logout")
    async def log_out(request: Request[Any, Any, Any]) -> Response[bytes]:
        gateway.snapshot.keys.authenticate(_headers(request))  # rejects requests from other origins
        response = _redirect("/login")
        _set_session(response, "", 0, is_secure=_is_secure(request))
        return response

    return [show_page, show_file, ask_for_key, log_in, log_out]


def _login_page(
    target: str, *, is_demo: bool, error: str = "", retry_seconds: float = 0.0
) -> Response[bytes]:
    wait = {"retry-after": str(math.ceil(retry_seconds))} if retry_seconds else {}
    return Response(
        render(_LOGIN, (), is_demo=is_demo, values={"next": target, "error": error}),
        status_code=429 if wait else 401 if error else 200,
        media_type="text/html; charset=utf-8",
        headers={
            "content-security-policy": _LOGIN.policy,
            "cache-control": "no-store",
            **_GUARDS,
            **wait,
        },
    )


def _serve(
    request: Request[Any, Any, Any], file: File, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """Serve a file: compressed if the client accepts it, 304 if the client has it."""
    sent = {
        # Revalidated on every use: a new version shows at once, an unchanged one costs a 304.
        "cache-control": "no-cache",
        "etag": file.etag,
        "vary": "accept-encoding",
        **_GUARDS,
        **(headers or {}),
    }
    if file.etag in _listed(request.headers.get("if-none-match", "")):
        return Response(b"", status_code=304, headers=sent, media_type=file.media_type)
    content = file.content
    if any(
        item.partition(";")[0].strip() == "gzip"
        for item in _listed(request.headers.get("accept-encoding", ""))
    ):
        content, sent["content-encoding"] = file.compressed, "gzip"
    return Response(content, headers=sent, media_type=file.media_type)


def _listed(value: str) -> list[str]:
    return [item.strip().removeprefix("W/") for item in value.split(",")]


def _redirect(path: str) -> Response[bytes]:
    headers = {"location": path, "cache-control": "no-store"}
    return Response(b"", status_code=303, headers=headers)


def _path_and_query(request: Request[Any, Any, Any]) -> str:
    query = request.scope["query_string"].decode("latin-1")
    return request.scope["path"] + (f"?{query}" if query else "")


def _own_page(target: str) -> str:
    """The page after the login. Anything but a page of the proxy becomes `/`."""
    path, _, query = target.partition("#")[0].partition("?")
    if path not in {page.path for page in PAGES}:
        return "/"
    return path + (f"?{quote(query, safe='=&%+', errors='replace')}" if query else "")


def _headers(request: Request[Any, Any, Any]) -> Sequence[tuple[bytes, bytes]]:
    return tuple(request.scope["headers"])


def _is_secure(request: Request[Any, Any, Any]) -> bool:
    """Whether the browser uses TLS, to the proxy or to a server in front of it."""
    return "https" in (request.scope["scheme"], request.headers.get("x-forwarded-proto", ""))


def _set_session(response: Response[bytes], value: str, seconds: int, *, is_secure: bool) -> None:
    response.set_cookie(
        SESSION_COOKIE,
        value,
        max_age=seconds,
        path="/",
        httponly=True,
        secure=is_secure,
        # Lax, so that a link from a Grafana panel keeps the login. The API also checks the origin.
        samesite="lax",
    )
