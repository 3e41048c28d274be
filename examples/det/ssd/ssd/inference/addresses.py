"""Network addresses as inputs: tell files from streams, and download files."""

from __future__ import annotations

import http.client
import mimetypes
import os
import re
import shutil
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

from ..data.image_formats import IMAGE_SUFFIXES
from ..errors import UserError, os_reason
from ..runtime.heartbeat import activity
from .live_stream import TIMEOUT
from .video_source import VIDEO_SUFFIXES

_PLAYLISTS = frozenset(
    "application/vnd.apple.mpegurl application/x-mpegurl audio/mpegurl audio/x-mpegurl application/dash+xml".split()
)


def is_address(text: str) -> bool:
    """Return True for a text such as rtsp://host/path or http://host/photo.jpg, unless a file has this name."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None and not os.path.lexists(text)


def without_secrets(address: str) -> str:
    """Return an address without user name, password and query, for messages and names of files."""
    scheme, _, rest = address.partition("://")
    host, slash, path = re.split(r"[?#]", rest, maxsplit=1)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def stream_name(address: str) -> str:
    """Return a name for the results of a stream: host and path, in which other characters than letters are `_`."""
    name = re.sub(r"[^\w.-]+", "_", without_secrets(address).partition("://")[2]).strip("_.")
    return name.encode()[:100].decode(errors="ignore") or "stream"


class Downloads:
    """Temporary folder of downloaded files, which is removed at the end of the process or with this object.

    paths: {address: path of the file}
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="ssd-predict-", ignore_cleanup_errors=True)
        self.paths: dict[str, Path] = {}

    def fetch(self, address: str) -> Path | None:
        """Download an image or video file. Returns None if the address is a stream, which is not read.

        Raises UserError if the server does not answer with an image, a video or a stream.
        """
        if not address.lower().startswith(("http://", "https://")):
            return None
        shown = without_secrets(address)
        if address in self.paths:
            return self.paths[address]
        try:
            with _open(address) as response:
                name = _file_name(response, shown)
                if name is None:
                    return None
                path = self._unused_path(shown, name)
                with activity(f"downloading {shown}"), open(path, "wb") as file:
                    shutil.copyfileobj(response, file)
                expected = response.headers.get("Content-Length")
                if expected is not None and path.stat().st_size != int(expected):
                    raise OSError(f"{path.stat().st_size:,} of {int(expected):,} bytes were received")
        except UserError:
            raise
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise UserError(
                f"--input: {shown} cannot be read ({_reason(error)}). Check the address and the network."
            ) from None
        self.paths[address] = path
        return path

    def _unused_path(self, shown: str, name: str) -> Path:
        """Return a path with the folders of the address. Addresses may differ only in their query."""
        parts = urllib.parse.unquote(shown.partition("://")[2]).split("/")[:-1]
        folder = Path(self._folder.name, *(part[:100] for part in parts if part not in ("", ".", "..")))
        folder.mkdir(parents=True, exist_ok=True)
        path, number = folder / name, 1
        while path.exists():
            number += 1
            path = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
        return path


def _open(address: str) -> http.client.HTTPResponse:
    """Open an address. The user name and password in the address are for basic or digest authentication."""
    parts = urllib.parse.urlsplit(address)
    host = parts.netloc.rpartition("@")[2]
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if parts.username:
        user, password = (urllib.parse.unquote(text or "") for text in (parts.username, parts.password))
        passwords.add_password(None, f"{parts.scheme}://{host}/", user=user, passwd=password)
    opener = urllib.request.build_opener(
        urllib.request.HTTPBasicAuthHandler(passwords), urllib.request.HTTPDigestAuthHandler(passwords)
    )
    path, query = (urllib.parse.quote(text, safe="/%:=&+,;@~!$'()*?-._") for text in (parts.path, parts.query))
    url = urllib.parse.urlunsplit((parts.scheme, host, path, query, ""))
    response: http.client.HTTPResponse = opener.open(
        urllib.request.Request(url, headers={"User-Agent": "ssd-mindcv"}), timeout=TIMEOUT
    )
    return response


def _file_name(response: http.client.HTTPResponse, shown: str) -> str | None:
    """Return the name of the image or video file that a server sends, or None if it sends a stream.

    shown: address without secrets
    Raises UserError if the answer is a page.
    """
    kind = response.headers.get_content_type()
    name = urllib.parse.unquote(shown.partition("://")[2].partition("/")[2]).rpartition("/")[2].replace("\0", "")
    name = name or "file"
    suffix = Path(name).suffix.lower()
    is_image = kind.startswith("image/") or (suffix in IMAGE_SUFFIXES and not kind.startswith(("video/", "multipart/")))
    is_video = not is_image and (kind.startswith("video/") or suffix in VIDEO_SUFFIXES)
    if kind == "text/html":
        raise UserError(
            f"--input: {shown} is a web page. Set --input to the address of the image, the video or the stream itself."
        )
    if kind in _PLAYLISTS or kind.startswith("multipart/") or not (is_image or is_video):
        return None
    if is_video and response.headers.get("Content-Length") is None:
        return None  # a recording that goes on
    if suffix not in (IMAGE_SUFFIXES if is_image else VIDEO_SUFFIXES):
        name += mimetypes.guess_extension(kind) or (".jpg" if is_image else ".mp4")
    suffix = Path(name).suffix
    stem = name.removesuffix(suffix).strip(" .")
    return f"{stem.encode()[:100].decode(errors='ignore') or 'file'}{suffix}"


def _reason(error: Exception) -> str:
    """Return the reason of an error of urllib in one line."""
    cause = getattr(error, "reason", error)
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answered {error.code} {error.reason}"
    if isinstance(cause, TimeoutError):
        return f"no answer for {TIMEOUT:g} s"
    return " ".join((os_reason(cause) if isinstance(cause, OSError) else str(cause)).split())
