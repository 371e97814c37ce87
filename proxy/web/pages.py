"""The pages for a browser: chat, compare, dashboard and experiments, and who may open them.

They are files in `ui/`, read at the start and served as they are: no build, no template language,
nothing from other origins. A page is the content of its <main>, put into `ui/shell.html`, and the
module `ui/NAME.js`. What they show comes from /v1 and /api, as any client gets it.

Answers of models are hostile input, so a browser is told to run nothing but our files.
"""

import asyncio
import gzip
import hashlib
import html
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qs, quote, urlsplit

from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.types import ControllerRouterHandler

from proxy.auth import SESSION_COOKIE, SESSION_SECONDS, is_admin
from proxy.errors import InvalidRequest, NotAuthenticated, NotFound
from proxy.gateway.gateway import Gateway

UI: Final = Path(__file__).with_name("ui")
CHARTS: Final = "plotly.min.js"  # plotly's own build of plotly.js, from its package
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
# Where text of a model becomes HTML, nothing but the sanitizer can make any.
_TRUSTED: Final = "; require-trusted-types-for 'script'; trusted-types dompurify"
_GUARDS: Final = {
    "x-content-type-options": "nosniff",
    # Not "no-referrer": a form would then come from the origin "null".
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Page(NamedTuple):
    """A page of the menu. `for_admins`: it shows what everybody asked."""

    path: str
    name: str
    title: str
    for_admins: bool = False

    @property
    def policy(self) -> str:
        return _POLICY if self.for_admins else _POLICY + _TRUSTED


PAGES: Final = (
    Page("/", "chat", "Chat"),
    Page("/compare", "compare", "Compare"),
    Page("/dashboard", "dashboard", "Dashboard", for_admins=True),
    Page("/experiments", "experiments", "Experiments", for_admins=True),
)
_LOGIN: Final = Page("/login", "login", "Log in")


class File(NamedTuple):
    """A file as it is served: compressed once, with what tells it from other versions."""

    content: bytes
    compressed: bytes
    media_type: str
    etag: str


def read_file(content: bytes, media_type: str) -> File:
    digest = hashlib.sha256(content).hexdigest()[:32]
    return File(content, gzip.compress(content, 9, mtime=0), media_type, f'"{digest}"')


def read_files(folder: Path = UI) -> dict[str, File]:
    """What is served below /ui/, by name."""
    return {
        path.relative_to(folder).as_posix(): read_file(path.read_bytes(), _TYPES[path.suffix])
        for path in sorted(folder.rglob("*"))
        if path.suffix in _TYPES
    }


@cache
def read_charts() -> File:
    """The library that draws charts: megabytes, so only once someone looks at one."""
    spec = find_spec("plotly")  # importing it would take a second
    assert spec is not None
    assert spec.origin is not None
    path = Path(spec.origin).parent / "package_data" / CHARTS
    return read_file(path.read_bytes(), _TYPES[".js"])


def render(page: Page, *, values: Mapping[str, str] | None = None) -> bytes:
    """A page whole: its content in the shell, with values in the place of {{name}}, escaped."""
    menu = "".join(
        f'<a href="{one.path}"{" aria-current=page" if one is page else ""}'
        f"{' data-admin' if one.for_admins else ''}>{one.title}</a>"
        for one in PAGES
    )
    filled = (UI / "shell.html").read_text(encoding="utf-8")
    parts = {
        "title": page.title,
        "name": page.name,
        "menu": menu,
        "content": (UI / f"{page.name}.html").read_text(encoding="utf-8"),
    }
    for name, text in parts.items():
        filled = filled.replace("{{" + name + "}}", text)
    for name, text in (values or {}).items():
        filled = filled.replace("{{" + name + "}}", html.escape(text))
    return filled.encode()


def routes(gateway: Gateway) -> list[ControllerRouterHandler]:
    """The handlers of the pages and their files."""
    files = read_files()
    rendered = {page: read_file(render(page), "text/html; charset=utf-8") for page in PAGES}

    @get([page.path for page in PAGES], name="page")
    async def show_page(request: Request[Any, Any, Any]) -> Response[bytes]:
        page = next(one for one in PAGES if one.path == request.url.path)
        keys = gateway.snapshot.keys
        if keys.required:
            client = keys.read_session(_headers(request))
            if client is None:
                return _see(f"/login?next={quote(_asked(request), safe='/')}")
            if page.for_admins and not is_admin(client):
                return _see("/")
        return _serve(request, rendered[page], {"content-security-policy": page.policy})

    @get("/ui/{name:path}", name="ui")
    async def show_file(request: Request[Any, Any, Any], name: FromPath[str]) -> Response[bytes]:
        name = name.removeprefix("/")
        found = await asyncio.to_thread(read_charts) if name == CHARTS else files.get(name)
        if found is None:
            raise NotFound("There is no such file.")
        return _serve(request, found)

    @get("/login")
    async def ask_for_key(
        request: Request[Any, Any, Any],
        next: FromQuery[str] = "/",  # noqa: A002
    ) -> Response[bytes]:
        keys = gateway.snapshot.keys
        if not keys.required or keys.read_session(_headers(request)) is not None:
            return _see(_own(next))
        return _login_page(_own(next))

    @post("/login")
    async def log_in(request: Request[Any, Any, Any]) -> Response[bytes]:
        body = await request.body()
        if len(body) > MAX_FORM_BYTES:
            raise InvalidRequest("The form is larger than any key.", param="key")
        form = parse_qs(body.decode("utf-8", "replace"))
        key, target = (form.get(name, [""])[-1] for name in ("key", "next"))
        try:
            session = gateway.snapshot.keys.log_in(key, _headers(request))
        except NotAuthenticated as error:
            return _login_page(_own(target), error=error.message)
        response = _see(_own(target))
        _set_session(response, session, SESSION_SECONDS, is_secure=_is_secure(request))
        return response

    @post("/logout")
    async def log_out(request: Request[Any, Any, Any]) -> Response[bytes]:
        gateway.snapshot.keys.authenticate(_headers(request))  # no other page may
        response = _see("/login")
        _set_session(response, "", 0, is_secure=_is_secure(request))
        return response

    return [show_page, show_file, ask_for_key, log_in, log_out]


def _login_page(target: str, *, error: str = "") -> Response[bytes]:
    return Response(
        render(_LOGIN, values={"next": target, "error": error}),
        status_code=401 if error else 200,
        media_type="text/html; charset=utf-8",
        headers={
            "content-security-policy": _LOGIN.policy, "cache-control": "no-store", **_GUARDS,
        },
    )  # fmt: skip


def _serve(
    request: Request[Any, Any, Any], file: File, headers: Mapping[str, str] | None = None
) -> Response[bytes]:
    """A file, compressed where the client can read that; nothing where it has it already."""
    sent = {
        # Asked for again each time: a new version is seen at once, and an old one costs a 304.
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
        one.partition(";")[0].strip() == "gzip"
        for one in _listed(request.headers.get("accept-encoding", ""))
    ):
        content, sent["content-encoding"] = file.compressed, "gzip"
    return Response(content, headers=sent, media_type=file.media_type)


def _listed(value: str) -> list[str]:
    return [one.strip().removeprefix("W/") for one in value.split(",")]


def _see(path: str) -> Response[bytes]:
    headers = {"location": path, "cache-control": "no-store"}
    return Response(b"", status_code=303, headers=headers)


def _asked(request: Request[Any, Any, Any]) -> str:
    query = request.url.query
    return request.url.path + (f"?{query}" if query else "")


def _own(target: str) -> str:
    """Where to go after the login: one of our pages, whatever was asked for."""
    parts = urlsplit(target)
    if parts.scheme or parts.netloc or parts.path not in {page.path for page in PAGES}:
        return "/"
    return parts.path + (f"?{quote(parts.query, safe='=&%+')}" if parts.query else "")


def _headers(request: Request[Any, Any, Any]) -> Sequence[tuple[bytes, bytes]]:
    return tuple(request.scope["headers"])


def _is_secure(request: Request[Any, Any, Any]) -> bool:
    """Whether the browser talks TLS, to us or to a server in front of us."""
    return "https" in (request.url.scheme, request.headers.get("x-forwarded-proto", ""))


def _set_session(response: Response[bytes], value: str, seconds: int, *, is_secure: bool) -> None:
    response.set_cookie(
        SESSION_COOKIE,
        value,
        max_age=seconds,
        path="/",
        httponly=True,
        secure=is_secure,
        # Lax: a link from a Grafana panel finds one logged in. What changes or tells something
        # looks at the origin besides.
        samesite="lax",
    )
