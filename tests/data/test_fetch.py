"""Downloading DIODE from a local server: resume, checksum, safe unpacking."""

import contextlib
import fcntl
import hashlib
import io
import re
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from depth_loss_sweep.data import fetch
from depth_loss_sweep.data.errors import DataError
from depth_loss_sweep.data.fetch import fetch_diode
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.data.sources import open_source

from .conftest import write_diode

NAME = "val/indoors/scene_00019/scan_00183/00019_00183_indoors_150_000"


def archive_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A .tar.gz of the given entries."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for info, content in members:
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.fixture
def archive(tmp_path) -> bytes:
    """A small archive in DIODE's layout, with noise so that it is larger than one network read."""
    root = tmp_path / "original"
    write_diode(root, NAME)
    noise = np.random.default_rng(0).random((200, 500))
    np.save(root / "val" / "noise.npy", noise)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(root / "val", arcname="val")
    return buffer.getvalue()


class Server:
    """Serves one file; can ignore ranges, and can break connections after so many bytes."""

    def __init__(self, content: bytes) -> None:
        self.content, self.ranges, self.break_after = content, True, None
        self.status: int | None = None
        self.requests: list[str | None] = []


@contextlib.contextmanager
def serving(server: Server) -> Iterator[str]:
    """Runs the server; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            pass

        def do_GET(self) -> None:
            wanted = self.headers.get("Range")
            server.requests.append(wanted)
            if server.status is not None:
                self.send_error(server.status)
                return
            start = int(wanted.split("=")[1].rstrip("-")) if wanted and server.ranges else 0
            if start >= len(server.content):
                self.send_error(416)
                return
            body = server.content[start:]
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(server.content) - 1}/{len(server.content)}")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body[: server.break_after])

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http_server.server_port}/val.tar.gz"
        finally:
            http_server.shutdown()
            thread.join()


def md5(content: bytes) -> str:
    """The checksum as `fetch_diode` wants it."""
    return hashlib.md5(content).hexdigest()


def complete(target: Path) -> bool:
    """Whether the unpacked pictures load."""
    source = open_source(DataSettings(source=f"diode:{target}"))
    return source.load(source.items()[0])[1].max() == 2.5


def test_fetch_downloads_and_unpacks(archive, tmp_path):
    """The result is a folder for `diode:PATH`, without the archive; again, nothing is downloaded."""
    server, seen = Server(archive), []
    with serving(server) as url:
        for _ in range(2):
            target = fetch_diode(tmp_path / "d", url, md5(archive), lambda *counts: seen.append(counts))
    assert target == tmp_path / "d" and complete(target)
    assert server.requests == [None]
    assert seen[-1] == (len(archive), len(archive))
    assert sorted(path.name for path in target.iterdir()) == [".fetch.lock", "val"]


def test_broken_download_goes_on(archive, tmp_path):
    """Broken connections are taken up where they stopped, within one call."""
    server = Server(archive)
    server.break_after = len(archive) // 3 + 1
    with serving(server) as url:
        assert complete(fetch_diode(tmp_path / "d", url, md5(archive)))
    third = server.break_after
    assert server.requests == [None, f"bytes={third}-", f"bytes={2 * third}-"]


@pytest.mark.parametrize("ranges", [True, False])
def test_download_resumes_in_another_process(archive, tmp_path, ranges):
    """What an earlier call left is continued; a server that ignores ranges sends all of it again."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "val.tar.gz.part").write_bytes(archive[:1000])
    server = Server(archive)
    server.ranges = ranges
    with serving(server) as url:
        assert complete(fetch_diode(tmp_path / "d", url, md5(archive)))
    assert server.requests == ["bytes=1000-"]


def test_finished_download_is_only_unpacked(archive, tmp_path):
    """Killed between download and unpacking, the next call downloads nothing and clears what was half unpacked."""
    (tmp_path / "d" / ".val.unpacking" / "val").mkdir(parents=True)
    (tmp_path / "d" / "val.tar.gz.part").write_bytes(archive)
    with serving(Server(archive)) as url:
        assert complete(fetch_diode(tmp_path / "d", url, md5(archive)))
    assert not (tmp_path / "d" / ".val.unpacking").exists()


def test_dead_server_keeps_what_arrived(archive, tmp_path):
    """When nothing more arrives the error says how to go on, and the part stays."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "val.tar.gz.part").write_bytes(archive[:1000])
    server = Server(archive)
    server.break_after = 0
    with serving(server) as url, pytest.raises(DataError, match=r"broke after 1000 bytes .*run it again"):
        fetch_diode(tmp_path / "d", url, md5(archive))
    assert (tmp_path / "d" / "val.tar.gz.part").read_bytes() == archive[:1000]
    assert len(server.requests) == fetch.ATTEMPTS


def test_wrong_checksum_is_refused(archive, tmp_path):
    """A file with another MD5 is removed and nothing is unpacked."""
    with serving(Server(archive)) as url, pytest.raises(DataError, match=f"has MD5 {md5(archive)}, expected 0000"):
        fetch_diode(tmp_path / "d", url, "0000")
    assert [path.name for path in (tmp_path / "d").iterdir()] == [".fetch.lock"]


def test_missing_file_is_one_line(tmp_path):
    """HTTP 404 names the address; no retry helps there."""
    server = Server(b"x")
    server.status = 404
    with serving(server) as url, pytest.raises(DataError, match="answered HTTP 404"):
        fetch_diode(tmp_path / "d", url, "0000")
    assert len(server.requests) == 1


def test_no_server_at_all(tmp_path):
    """A refused connection is a DataError."""
    with serving(Server(b"x")) as url:
        pass
    with pytest.raises(DataError, match="refused"):
        fetch_diode(tmp_path / "d", url, "0000")


def test_two_downloads_into_one_folder(archive, tmp_path):
    """A second download into the same folder is refused while the first runs."""
    (tmp_path / "d").mkdir()
    with (tmp_path / "d" / ".fetch.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is downloading"):
            fetch_diode(tmp_path / "d", "http://127.0.0.1:9/x", "0000")


def info(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    """An archive's entry of any kind."""
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, link
    return member


EVIL = {
    "parent": (info("val/../../evil"), "points out of its folder"),
    "absolute": (info("/tmp/evil"), "points out of its folder"),
    "symbolic link": (info("val/link", tarfile.SYMTYPE, "/etc"), "is a link or a device"),
    "hard link": (info("val/link", tarfile.LNKTYPE, "val/a"), "is a link or a device"),
    "device": (info("val/device", tarfile.CHRTYPE), "is a link or a device"),
    "other folder": (info("evil/a"), "lies outside val/"),
}


@pytest.mark.parametrize("name", EVIL)
def test_evil_archives_are_refused(tmp_path, name):
    """Entries that leave the folder, links and devices stop the unpacking, and nothing remains of it."""
    member, message = EVIL[name]
    content = archive_of((info("val/a"), b"1"), (member, b""))
    with serving(Server(content)) as url, pytest.raises(DataError, match=re.escape(message)):
        fetch_diode(tmp_path / "d", url, md5(content))
    assert sorted(path.name for path in (tmp_path / "d").iterdir()) == [".fetch.lock", "val.tar.gz.part"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no archive", "cannot be unpacked"), (archive_of((info("val/a"), b"1"))[:60], "cannot be unpacked")],
    ids=["text", "cut off"],  # an archive holds the time it was made
)
def test_what_is_no_archive(tmp_path, content, message):
    """A right checksum over something that isn't a whole archive is refused too."""
    with serving(Server(content)) as url, pytest.raises(DataError, match=message):
        fetch_diode(tmp_path / "d", url, md5(content))
    assert not (tmp_path / "d" / "val").exists()


def test_bombs_are_refused(tmp_path, monkeypatch):
    """An archive that unpacks to more than a bound is stopped before it is written."""
    monkeypatch.setattr(fetch, "MOST_UNPACKED_BYTES", 1000)
    content = archive_of((info("val/a"), bytes(600)), (info("val/b"), bytes(600)))
    with serving(Server(content)) as url, pytest.raises(DataError, match="unpacks to more than"):
        fetch_diode(tmp_path / "d", url, md5(content))
    assert not (tmp_path / "d" / "val").exists()
