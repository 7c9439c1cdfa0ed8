"""Downloads DIODE's validation set: resumes a broken download, verifies it, unpacks it safely.

fetch_diode(Path("/data/diode"))   ->  /data/diode/val/..., used as diode:/data/diode
"""

import hashlib
import http.client
import os
import shutil
import ssl
import tarfile
import urllib.error
import urllib.request
import zlib
from pathlib import Path, PurePosixPath

from depth_loss_sweep.data.cache import Progress
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.files import lock

DIODE_URL = "https://diode-dataset.s3.amazonaws.com/val.tar.gz"
DIODE_MD5 = "5c895d09201b88973c8fe4552a67dd85"
UNPACKED = "val"
"""The one folder the archive holds."""

CHUNK = 1 << 18
TIMEOUT = 60.0
ATTEMPTS = 5
MOST_UNPACKED_BYTES = 32 << 30
"""The real archive unpacks to about 6 GB; a larger one than this is not it."""


def fetch_diode(target: Path, url: str = DIODE_URL, md5: str = DIODE_MD5, on_progress: Progress | None = None) -> Path:
    """Makes sure that DIODE's val/ lies in the folder `target`, and returns `target`: the path of a diode source.

    Does nothing if it is there. A download that broke goes on where it stopped, also in another process. Nothing is
    unpacked before the MD5 is right, and val/ appears only when complete; then the archive is removed.
    `on_progress(done, total)` counts bytes downloaded; total is 0 if the server doesn't say.
    Raises DataError if the server fails, the checksum is wrong, or the archive holds anything suspicious.
    """
    done = target / UNPACKED
    if done.is_dir():
        return target
    if os.path.lexists(done):
        raise DataError(f"{done} is there, and is no folder; move it away, or choose another folder")
    try:
        target.mkdir(parents=True, exist_ok=True)
        with lock(target / ".fetch.lock") as held:
            if held is None:
                raise DataError(f"another process is downloading into {target}; wait for it or stop it")
            if not done.is_dir():
                archive = target / "val.tar.gz.part"
                _download(url, archive, on_progress)
                _verify(archive, md5, url)
                _unpack(archive, done)
                archive.unlink()
    except OSError as error:
        raise DataError(f"DIODE cannot be stored in {target}: {error.strerror or error}") from error
    return target


# Downloading -----------------------------------------------------------------------------------------------------


class _BrokenError(Exception):
    """The connection broke; what has arrived is kept."""


def _download(url: str, part: Path, on_progress: Progress | None) -> None:
    """Completes `part`; connections that break are taken up again as long as they bring something."""
    fruitless = 0
    while fruitless < ATTEMPTS:
        before = _size(part)
        try:
            return _continue(url, part, on_progress)
        except _BrokenError as error:
            fruitless = 0 if _size(part) > before else fruitless + 1
            reason = str(error)
    raise DataError(
        f"the download of {url} broke after {_size(part)} bytes ({reason}); run it again to go on from there"
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _continue(url: str, part: Path, on_progress: Progress | None) -> None:
    have = _size(part)
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            start = _start(response, have)
            _receive(response, part, start, on_progress)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            return  # nothing lies beyond what we have; the checksum tells whether it is right
        if error.code >= 500:
            raise _BrokenError(f"HTTP {error.code}") from None
        raise DataError(f"{url} answered HTTP {error.code} {error.reason}; check the address") from None
    except urllib.error.URLError as error:
        raise _BrokenError(str(error.reason)) from None
    except (http.client.HTTPException, ConnectionError, TimeoutError, ssl.SSLError) as error:
        raise _BrokenError(str(error) or type(error).__name__) from None


def _start(response: http.client.HTTPResponse, have: int) -> int:
    """Where in the file the answer begins: 0 if the server ignored our Range."""
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        return 0
    sent = response.headers.get("Content-Range", "")
    if sent.startswith(f"bytes {have}-"):
        return have
    raise DataError(f"the server answered with the wrong part of the file ({sent!r}, asked for {have}-)")


def _receive(response: http.client.HTTPResponse, part: Path, start: int, on_progress: Progress | None) -> None:
    length = response.headers.get("Content-Length")
    total = start + int(length) if length else 0
    done = start
    with part.open("r+b" if start else "wb") as file:
        file.seek(start)
        while chunk := response.read(CHUNK):
            file.write(chunk)
            done += len(chunk)
            if on_progress is not None:
                on_progress(done, total)
    if done < total:  # read() reports a closed connection as the end
        raise _BrokenError(f"the server closed it at {done} of {total} bytes")


def _verify(archive: Path, md5: str, url: str) -> None:
    digest = hashlib.md5(usedforsecurity=False)
    with archive.open("rb") as file:
        while chunk := file.read(CHUNK):
            digest.update(chunk)
    if digest.hexdigest() != md5:
        archive.unlink()
        raise DataError(f"{url} has MD5 {digest.hexdigest()}, expected {md5}; the download was removed, run it again")


# Unpacking -------------------------------------------------------------------------------------------------------


def _unpack(archive: Path, done: Path) -> None:
    """Unpacks beside `done` and renames, so that `done` is complete or not there."""
    unpacking = done.with_name(f".{done.name}.unpacking")
    shutil.rmtree(unpacking, ignore_errors=True)  # of a process that was killed
    unpacking.mkdir()
    try:
        with tarfile.open(archive, "r|gz") as tar:
            _extract(tar, unpacking, archive)
        if not (unpacking / UNPACKED).is_dir():
            raise DataError(f"the archive holds no {UNPACKED}/ folder; it is not DIODE's")
        (unpacking / UNPACKED).rename(done)
    except (tarfile.TarError, zlib.error, EOFError, LookupError, OverflowError, ValueError) as error:
        raise DataError(f"the archive {archive} cannot be unpacked: {error}") from None
    finally:
        shutil.rmtree(unpacking, ignore_errors=True)


def _extract(tar: tarfile.TarFile, folder: Path, archive: Path) -> None:
    total = 0
    for member in tar:
        fault = _suspicion(member)
        total += member.size
        if fault is None and total > MOST_UNPACKED_BYTES:
            fault = f"the archive unpacks to more than {MOST_UNPACKED_BYTES >> 30} GiB"
        if fault is not None:
            raise DataError(f"{archive}: {fault}; nothing was unpacked, this is not DIODE's archive")
        _put(tar, member, folder / member.name)


def _put(tar: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    """Write one file or folder, with our own rights; extraction filters came in the midst of Python 3.11."""
    source = tar.extractfile(member)
    if source is None:
        target.mkdir(parents=True, exist_ok=True)
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with source, target.open("wb") as file:
        shutil.copyfileobj(source, file, CHUNK)


def _suspicion(member: tarfile.TarInfo) -> str | None:
    """What is wrong with an archive's entry: anything but files and folders below val/."""
    path = PurePosixPath(member.name)
    if path.is_absolute() or ".." in path.parts:
        return f"the archive's entry {member.name!r} points out of its folder"
    if member.size < 0:
        return f"the archive's entry {member.name!r} has a size below 0"
    if not (member.isreg() or member.isdir()):
        return f"the archive's entry {member.name!r} is a link or a device"
    if path.parts and path.parts[0] != UNPACKED:
        return f"the archive's entry {member.name!r} lies outside {UNPACKED}/"
    return None
