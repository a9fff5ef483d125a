"""Downloads that are trusted only after they were counted and hashed.

A file arrives in ``NAME.part`` beside its place, is hashed while it streams, and is renamed
to its place when size and SHA-256 are as pinned: a reader sees the whole right file or none.
What was broken off goes on where it stopped, also in a later call.
"""

import contextlib
import errno
import fcntl
import hashlib
import http.client
import os
import random
import re
import shutil
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from device import __version__
from device.errors import FetchError
from device.system import audit
from device.system.files import sync_folder

_CHUNK_BYTES = 64 << 10
# How often in a row it is tried again without having got further than this.
_TRIES = 6
_PROGRESS_BYTES = 256 << 10
_FIRST_WAIT_S = 1.0
_LONGEST_WAIT_S = 60.0
# A connection that brings less than a kilobyte a second for this long is dead.
_STALL_S = 20.0
_SLOWEST_BYTES_A_S = 1024
_PASSING = {408, 425, 429, 500, 502, 503, 504}

Progress = Callable[[int, int], None]


class Pinned(Protocol):
    """What is known of a file before it is fetched, as the catalogue has it."""

    @property
    def url(self) -> str:
        """Where it is; https only."""

    @property
    def bytes(self) -> int:
        """Its size, which is also the most that is ever read."""

    @property
    def sha256(self) -> str:
        """Its SHA-256 in hexadecimal."""


_NO_NETWORK = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN)


class _PassingError(Exception):
    """Something that may be over at the next try; ``wait_s`` is what the server asks for."""

    def __init__(self, problem: str, wait_s: float = 0.0) -> None:
        super().__init__(problem)
        self.wait_s = wait_s


class _NoNetworkError(_PassingError):
    """Nothing leads to the server; at the first try that is how this device is."""


class Fetcher:
    """Fetches pinned files over https, through the proxy that the environment names.

    ``trust`` is by default the system's certificates; ``wait`` is called with the seconds
    between two tries and ``stall_s`` bounds how long nothing may arrive.
    """

    def __init__(
        self,
        *,
        trust: ssl.SSLContext | None = None,
        wait: Callable[[float], object] = time.sleep,
        stall_s: float = _STALL_S,
    ) -> None:
        self._wait = wait
        self._stall_s = stall_s
        # Only what https needs: no handler here opens file:, ftp: or plain http: addresses.
        self._opener = urllib.request.OpenerDirector()
        for handler in (
            urllib.request.ProxyHandler(),
            urllib.request.UnknownHandler(),
            urllib.request.HTTPSHandler(context=trust or ssl.create_default_context()),
            urllib.request.HTTPDefaultErrorHandler(),
            urllib.request.HTTPErrorProcessor(),
            _HttpsRedirects(),
        ):
            self._opener.add_handler(handler)

    def fetch(
        self, file: Pinned, target: Path, progress: Progress = lambda _done, _of: None
    ) -> None:
        """Have ``file`` at ``target``, which is replaced only by the right bytes.

        ``progress`` is told the bytes that are there and those that there will be. Raises
        FetchError for what will not get better by itself, or did not in several tries.
        """
        if not file.url.startswith("https://"):
            raise FetchError(file.url, "is not an https:// address")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            path = target.with_name(f"{target.name}.part")
            with _locked(path, file.url) as part:
                have = part.seek(0, os.SEEK_END)
                _check_room(target, file.bytes - have)
                self._until_whole(file, part, progress)
                part.flush()
                os.fsync(part.fileno())
                path.replace(target)
            sync_folder(target.parent)
        except OSError as error:
            raise FetchError(target, _disk_problem(error)) from None

    def _until_whole(self, file: Pinned, part: IO[bytes], progress: Progress) -> None:
        tries, fresh = 0, part.seek(0, os.SEEK_END) == 0
        while True:
            have = part.seek(0, os.SEEK_END)
            try:
                digest = self._go_on(file, part, progress)
            except _PassingError as error:
                got = part.seek(0, os.SEEK_END) - have
                if isinstance(error, _NoNetworkError) and not tries:
                    raise FetchError(
                        file.url, f"there is no network to it: {error}; run it again when there is"
                    ) from None
                tries = 1 if got >= _PROGRESS_BYTES else tries + 1
                if tries >= _TRIES:
                    raise FetchError(
                        file.url, f"{error}; gave up after {tries} tries; run it again to go on"
                    ) from None
                backoff_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (tries - 1))
                # Jitter, or a fleet that lost one server comes back to it in step.
                backoff_s *= random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                self._wait(max(backoff_s, error.wait_s))
                continue
            if digest == file.sha256:
                return
            part.truncate(0)
            if fresh:
                audit.note("refused", f"a download that is not the file asked for, from {file.url}")
                raise FetchError(
                    file.url,
                    f"served another file: SHA-256 {digest[:16]}…, expected {file.sha256[:16]}…; "
                    "nothing was installed",
                )
            # What an earlier call had left was not the beginning of this file.
            fresh = True

    def _go_on(self, file: Pinned, part: IO[bytes], progress: Progress) -> str:
        """Read on from what is there to the end; returns the SHA-256 of the whole."""
        digest, have = _hash_of(part)
        if have > file.bytes:
            part.truncate(0)
            digest, have = hashlib.sha256(), 0
        progress(have, file.bytes)
        if have < file.bytes:
            with self._open(file, have) as response:
                if have and not _continues(response, have, file):
                    part.truncate(0)
                    digest, have = hashlib.sha256(), 0
                _check_length(response, have, file)
                part.seek(have)
                for chunk in self._chunks(response):
                    have += len(chunk)
                    if have > file.bytes:
                        part.truncate(0)
                        raise FetchError(
                            file.url, f"sends more than the {file.bytes:,} bytes that it has"
                        )
                    part.write(chunk)
                    digest.update(chunk)
                    progress(have, file.bytes)
            if have < file.bytes:
                part.flush()
                raise _PassingError(f"ended after {have:,} of {file.bytes:,} bytes")
        found: str = digest.hexdigest()
        return found

    def _open(self, file: Pinned, have: int) -> Any:
        request = urllib.request.Request(file.url)  # noqa: S310 - https was checked
        request.add_header("User-Agent", f"labelcam/{__version__}")
        request.add_header("Accept-Encoding", "identity")
        if have:
            request.add_header("Range", f"bytes={have}-")
        try:
            return self._opener.open(request, timeout=self._stall_s)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code in _PASSING:
                raise _PassingError(
                    f"answers {error.code} {error.reason}", _retry_after_s(error.headers)
                ) from None
            raise FetchError(file.url, f"answers {error.code} {error.reason}") from None
        except urllib.error.URLError as error:
            raise _explained(file.url, error.reason) from None
        except (OSError, http.client.HTTPException) as error:
            raise _explained(file.url, error) from None

    def _chunks(self, response: Any) -> Iterator[bytes]:
        """What arrives, as it arrives; raises _PassingError when it stops or crawls."""
        since, got = time.monotonic(), 0
        while True:
            try:
                chunk = response.read1(_CHUNK_BYTES)
            except TimeoutError:
                raise _PassingError(f"sent nothing for {self._stall_s:g} s") from None
            except (OSError, http.client.HTTPException) as error:
                raise _PassingError(f"broke off: {_reason(error)}") from None
            if not chunk:
                return
            yield chunk
            got += len(chunk)
            elapsed_s = time.monotonic() - since
            if elapsed_s >= self._stall_s:
                if got < _SLOWEST_BYTES_A_S * elapsed_s:
                    raise _PassingError(f"sent {got:,} bytes in {elapsed_s:.0f} s")
                since, got = time.monotonic(), 0


class _HttpsRedirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to https only, at most five."""

    max_redirections = 5
    max_repeats = 2

    def redirect_request(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> urllib.request.Request | None:
        if not newurl.startswith("https://"):
            fp.close()
            raise FetchError(req.full_url, f"redirects to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


@contextlib.contextmanager
def _locked(path: Path, url: str) -> Iterator[IO[bytes]]:
    """The partial file, open to be read and written, and nobody else's meanwhile."""
    # No link is followed: others may be able to write to the folder.
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(path, flags, 0o644), "r+b") as part:
        try:
            fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Whoever had the lock may have renamed the file to its place meanwhile.
            mine = os.path.samestat(os.fstat(part.fileno()), path.stat())
        except (BlockingIOError, FileNotFoundError):
            mine = False
        if not mine:
            raise FetchError(url, f"is being fetched by another labelcam, into {path}")
        yield part


def _hash_of(part: IO[bytes]) -> tuple[Any, int]:
    """The running SHA-256 of what is there, and how many bytes that is."""
    digest = hashlib.sha256()
    part.seek(0)
    while chunk := part.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest, part.tell()


def _continues(response: Any, have: int, file: Pinned) -> bool:
    """Whether the server goes on at byte ``have``; if not it sends the whole file again."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return False
    span = response.headers.get("Content-Range", "")
    if not re.fullmatch(rf"bytes {have}-\d+/({file.bytes}|\*)", span):
        raise FetchError(file.url, f"answers with the range {span!r}, asked for byte {have} on")
    return True


def _check_length(response: Any, have: int, file: Pinned) -> None:
    """Refuse before the first byte what cannot be the file."""
    length = response.headers.get("Content-Length")
    if length is not None and length != str(file.bytes - have):
        raise FetchError(
            file.url, f"announces {length} bytes, expected {file.bytes - have:,}; not the same file"
        )


def _check_room(target: Path, bytes_to_come: int) -> None:
    free = shutil.disk_usage(target.parent).free
    if bytes_to_come > free:
        raise FetchError(
            target, f"needs {bytes_to_come:,} bytes and the disk has {free:,} left; make room"
        )


def _retry_after_s(headers: Any) -> float:
    """What a busy server asks for, in seconds; a date is not heeded, a Pi's clock may be off."""
    asked = headers.get("Retry-After", "")
    return min(_LONGEST_WAIT_S, float(asked)) if asked.isascii() and asked.isdecimal() else 0.0


def _explained(url: str, error: object) -> Exception:
    """What went wrong before the first byte: for good, or perhaps only now."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return FetchError(
            url,
            f"its certificate is not trusted ({error.verify_message}); "
            "check the clock of this device and the network it is in",
        )
    if isinstance(error, socket.gaierror) or getattr(error, "errno", None) in _NO_NETWORK:
        return _NoNetworkError(_reason(error))
    return _PassingError(_reason(error))


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())


def _disk_problem(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    if error.errno == errno.ENOSPC:
        return "the disk is full; make room and run it again to go on"
    return f"cannot be written: {error.strerror}{where}; see the folder's permissions"
