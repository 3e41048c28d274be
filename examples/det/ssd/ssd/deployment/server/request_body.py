"""Read the bodies of requests into memory, within limits on bytes and time. Nothing is written to the disk."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncGenerator, AsyncIterator, Iterator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from .detection_service import DetectionService
from .request_error import CLIENT_CLOSED, RequestError

MAX_FORM_FIELDS = 16  # fields of a form that are not files, and are ignored


@dataclasses.dataclass(frozen=True)
class UploadedImage:
    """Image file of a request.

    name: file name that the client gave, or "" for a request whose whole body is the file
    content: bytes of the file
    """

    name: str
    content: bytes


class _InMemoryParser(MultiPartParser):
    """Parser of multipart forms that keeps files in memory. Starlette's own writes files above 1 MiB to the disk."""

    spool_max_size = 0  # SpooledTemporaryFile takes 0 for no limit; RequestBodies limits the size


class RequestBodies:
    """Read the bodies of requests.

    All bodies in memory together are limited too, so that many large requests cannot exhaust the memory.
    """

    def __init__(self, service: DetectionService):
        self._service = service
        self._num_buffered = 0  # bytes of bodies in memory

    @contextlib.asynccontextmanager
    async def read_bytes(self, request: Request) -> AsyncIterator[bytes]:
        """Read a body as bytes. It counts against the memory until the context ends.

        Raises RequestError if the body is too large or comes too slowly, if the server is busy, or if the client left.
        """
        with self._count_bytes() as count:
            yield b"".join([chunk async for chunk in self._read_chunks(request, count)])

    @contextlib.asynccontextmanager
    async def read_images(self, request: Request) -> AsyncIterator[list[UploadedImage]]:
        """Read image files: all files of a multipart form, or else the body itself. Raises as `read_bytes` does."""
        if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            async with self.read_bytes(request) as content:
                yield [UploadedImage("", content)]
            return
        with self._count_bytes() as count:
            parser = _InMemoryParser(
                request.headers,
                self._read_chunks(request, count),
                max_files=self._service.settings.queue_size,
                max_fields=MAX_FORM_FIELDS,
            )
            try:
                form = await parser.parse()
            except MultiPartException as error:
                raise RequestError(400, f"form: {error.message.rstrip('.')}. Send image files in a form.") from None
            try:
                files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
                images = [UploadedImage(file.filename or "", await file.read()) for file in files]
            finally:
                await form.close()
            if not images:
                raise RequestError(400, "form: it has no file. Send at least one image file, with a file name.")
            yield images

    @contextlib.contextmanager
    def _count_bytes(self) -> Iterator[_ByteCount]:
        count = _ByteCount()
        try:
            yield count
        finally:
            self._num_buffered -= count.num_bytes

    async def _read_chunks(self, request: Request, count: _ByteCount) -> AsyncGenerator[bytes, None]:
        settings = self._service.settings
        _refuse_encoding(request)
        stated = request.headers.get("content-length", "0")
        if stated.isdecimal() and int(stated) > settings.max_bytes:
            raise _too_large(settings.max_bytes)
        stream = request.stream()
        while True:
            try:
                chunk = await asyncio.wait_for(anext(stream), timeout=self._service.seconds_left(request))
            except StopAsyncIteration:
                return
            except asyncio.TimeoutError:
                raise RequestError(
                    408, f"request: it was not complete after {settings.timeout:g} s. Send a smaller image."
                ) from None
            except ClientDisconnect:
                raise RequestError(CLIENT_CLOSED, "request: the client closed the connection.") from None
            if self._num_buffered + len(chunk) > settings.max_buffered_bytes:
                raise self._service.busy_error()
            count.num_bytes += len(chunk)
            self._num_buffered += len(chunk)
            if count.num_bytes > settings.max_bytes:
                raise _too_large(settings.max_bytes)
            yield chunk


@dataclasses.dataclass
class _ByteCount:
    """Number of bytes of one body."""

    num_bytes: int = 0


def _too_large(max_bytes: int) -> RequestError:
    return RequestError(
        413,
        f"request: the body has more than {max_bytes:,} bytes. "
        "Send smaller images, or start the server with a larger --max_bytes.",
    )


def _refuse_encoding(request: Request) -> None:
    """Refuse compressed bodies, because a small body could then fill the memory."""
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise RequestError(415, f"Content-Encoding: {encoding[:40]!r} is not supported. Send the body uncompressed.")
