"""The page that people use, and its files."""

from __future__ import annotations

import re

from fastapi import APIRouter, Request
from starlette.responses import PlainTextResponse, Response

from persona_steering.server.errors import ApiError
from persona_steering.server.page import INDEX, page_file

router = APIRouter(include_in_schema=False)  # the document is of the interface, and browsers find these by themselves


@router.api_route("/", methods=["GET", "HEAD"])
def get_page(request: Request) -> Response:
    """The page; the text after # in its address says what it shows."""
    return _sent(request, INDEX) or PlainTextResponse(
        "The page was not built with this server: run npm ci and npm run build in frontend/. "
        "The interface is at /v1 and /api/v1.\n",
        404,
    )


@router.api_route("/icon.svg", methods=["GET", "HEAD"])
@router.api_route("/assets/{name}", methods=["GET", "HEAD"])
def get_page_file(request: Request) -> Response:
    """A script, a style or a picture of the page."""
    found = _sent(request, request.url.path.removeprefix("/"))
    if found is None:
        raise ApiError(404, "not_found_error", "not_found", "the page has no such file.")
    return found


def _sent(request: Request, name: str) -> Response | None:
    """A file as this browser takes it, or word that the one it has still holds. None where there is no such file."""
    file = page_file(name)
    if file is None:
        return None
    headers = {"cache-control": "no-cache", "etag": file.tag, "vary": "Accept-Encoding"}
    if file.tag in re.findall(r'W/"[^"]*"', request.headers.get("if-none-match", "")):
        return Response(status_code=304, headers=headers)
    if file.packed is not None and "gzip" in request.headers.get("accept-encoding", ""):
        return Response(file.packed, headers={**headers, "content-encoding": "gzip"}, media_type=file.media_type)
    return Response(file.content, headers=headers, media_type=file.media_type)
