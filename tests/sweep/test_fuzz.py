"""Malformed inputs, made from valid ones: each ends in success, or in one line that names the file and exit 2.

Seeded and bounded. Checksums are made right again after half of the damages, so that what lies behind them is met too.
`SWEEP_FUZZ=10` tries ten times as many.
"""

import gzip
import hashlib
import importlib
import io
import json
import os
import random
import re
import signal
import sqlite3
import struct
import subprocess
import sys
import tarfile
import tempfile
import traceback
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from depth_loss_sweep.cli import run
from depth_loss_sweep.cli.exit_codes import DONE
from depth_loss_sweep.reports.analysis import Analysis
from depth_loss_sweep.reports.samples import sample_panels
from depth_loss_sweep.results import study_record

from .conftest import LINE, ROOT, Lab

SCALE = int(os.environ.get("SWEEP_FUZZ", "1"))
TOO_LONG_S = 10
SIZE = 16
HUGE = (2**16 - 1, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1, 30_000, 1 << 27)
WORDS = (
    "nan",
    "inf",
    "-1",
    "0",
    "1e999",
    "10000000000000000000000",
    "true",
    "[]",
    "{}",
    '""',
    "\\",
    "\0",
    "é",
    "'",
    "[[",
)
# Progress, and what the JPEG library says of a damaged picture that it decodes all the same.
CHATTER = re.compile(
    r"(preparing pictures|line: \d+ of \d+ trials? done|libpng |Corrupt JPEG|Premature end|Invalid SOS|Warning: |\[ ?WARN|downloading )"
)


# Damage


def damaged(data: bytes, chance: random.Random, others: tuple[bytes, ...] = ()) -> bytes:
    """The bytes with one fault."""
    place, end = sorted(chance.randrange(len(data) + 1) for _ in range(2))
    near = min(place, chance.randrange(1, 128))
    match chance.randrange(10):
        case 0:
            return data[:place]
        case 1:
            return data[:near] + bytes(min(8, len(data) - near)) + data[near + 8 :]
        case 2 | 3:
            return flipped(data, chance, chance.choice((1, 1, 3, 40)), len(data))
        case 4 | 5:
            return flipped(data, chance, chance.choice((1, 2)), min(len(data), 128))
        case 6:
            length = chance.randrange(1, 64)
            one, two = data[place : place + length], data[end : end + length]
            return data[:place] + two + data[place + length : end] + one + data[end + length :]
        case 7:
            return data[:end] + data[place:]
        case 8:
            number, form = chance.choice(HUGE), chance.choice(("<I", ">I", "<Q", ">Q", "<H", ">H"))
            packed = struct.pack(form, number & (256 ** struct.calcsize(form) - 1))
            at = chance.choice((near, place))
            return data[:at] + packed + data[at + len(packed) :]
        case _:
            return chance.choice((b"", b"\0" * 100, chance.randbytes(300), b"hello\n", b"PK\3\4", *others))


def flipped(data: bytes, chance: random.Random, bits: int, within: int) -> bytes:
    """Some bits turned over."""
    changed = bytearray(data)
    for _ in range(bits if within else 0):
        changed[chance.randrange(within)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def edited(text: str, chance: random.Random) -> str:
    """A text with one fault: a line lost, doubled or moved, a value or a character replaced."""
    lines = text.splitlines()
    at, other = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(8):
        case 0:
            del lines[at]
        case 1:
            lines.insert(other, lines[at])
        case 2 | 3:
            key, sign, _ = lines[at].partition("=")
            lines[at] = f"{key}{sign} {chance.choice(WORDS)}"
        case 4:
            lines[at] = re.sub(r"\d+", str(chance.choice((*HUGE, 10**30, -5))), lines[at], count=1)
        case 5:
            lines[at] = lines[other] + lines[at]
        case 6:
            place = chance.randrange(len(lines[at]) + 1)
            lines[at] = lines[at][:place] + chance.choice(WORDS) + lines[at][place + 1 :]
        case _:
            return text[: chance.randrange(len(text))]
    return "\n".join(lines)


def resealed_png(data: bytes, chance: random.Random) -> bytes:
    """A PNG whose chunks were damaged, lost, doubled or moved, each with a right checksum."""
    chunks, place = [], 8
    while place + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += 12 + length
    at, other = chance.randrange(len(chunks)), chance.randrange(len(chunks))
    kind, content = chunks[at]
    match chance.randrange(5):
        case 0:
            del chunks[at]
        case 1:
            chunks.insert(other, chunks[at])
        case 2:
            chunks[at], chunks[other] = chunks[other], chunks[at]
        case 3 if chunks[0][1]:
            side = struct.pack(">I", chance.choice(HUGE) & 0xFFFFFFFF)
            header = chunks[0][1]
            chunks[0] = (
                chunks[0][0],
                chance.choice((side + header[4:], header[:4] + side + header[8:], side * 2 + header[8:])),
            )
        case _:
            chunks[at] = (flipped(kind, chance, chance.choice((0, 0, 1)), 4), damaged(content or b"\0", chance))
    sealed = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + b"".join(sealed)


def resealed_zip(data: bytes, chance: random.Random) -> bytes:
    """An .npz whose members were damaged, lost, doubled or exchanged, each with a right checksum."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    at, other = chance.choice(list(members)), chance.choice(list(members))
    match chance.randrange(6):
        case 0:
            del members[at]
        case 1:
            members[at], members[other] = members[other], members[at]
        case 2 if "meta.json" in members:
            members["meta.json"] = changed_json(members["meta.json"].decode(), chance).encode()
        case 3:
            buffer = io.BytesIO()
            shape = chance.choice(((), (0,), (1, 1), (10**9, 0), (3, 4, 5, 6)))
            kind = chance.choice(("f8", "i8", "U3", "?", "c16", "f2", "M8[s]", "S1"))
            np.save(buffer, np.zeros(shape, kind))
            members[at] = buffer.getvalue()
        case _:
            members[at] = damaged(members[at], chance)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", chance.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED,))) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def changed_json(text: str, chance: random.Random) -> str:
    """JSON with one value somewhere in it replaced, renamed or removed."""
    tree = json.loads(text)
    place = tree
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        if isinstance(place[key], (dict, list)) and place[key] and chance.random() < 0.7:
            place = place[key]
            continue
        break
    match chance.randrange(4):
        case 0:
            del place[key]
        case 1 if isinstance(place, dict):
            place[f"{key}_"] = place.pop(key)
        case _:
            values = (None, "x", -1, 0, 10**30, 1e308, float("nan"), [], {}, [1, 2, 3], True, 2**31, "<script>")
            place[key] = chance.choice(values)
    return json.dumps(tree)


def resealed_tar(data: bytes, chance: random.Random) -> bytes:
    """A .tar.gz whose tar was damaged, its headers' checksums mostly right again."""
    tar = bytearray(damaged(gzip.decompress(data), chance))
    if chance.random() < 0.7:
        for place in range(0, len(tar) - 511, 512):
            if tar[place + 257 : place + 262] == b"ustar":
                if chance.random() < 0.3:
                    field, length = chance.choice(
                        ((0, 100), (100, 8), (124, 12), (136, 12), (156, 1), (157, 100), (345, 155))
                    )
                    tar[place + field : place + field + length] = chance.randbytes(length)
                tar[place + 148 : place + 156] = b" " * 8
                tar[place + 148 : place + 156] = b"%06o\0 " % sum(tar[place : place + 512])
    return gzip.compress(bytes(tar), 1)


# Judging


class TooLongError(BaseException):
    """Nothing catches it by accident."""


@contextmanager
def alarm() -> Iterator[None]:
    """At most ten seconds of computing, however busy the machine is; pytest's own limit ends what only waits."""

    def ring(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, TOO_LONG_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


class Judge:
    """Runs command lines and collects what ended otherwise than it may."""

    def __init__(self, capfd: pytest.CaptureFixture[str]) -> None:
        self.capfd = capfd
        self.cases = self.refused = 0
        self.faults: list[str] = []

    def __call__(self, case: object, arguments: list[str], *names: str, work: Callable[[], int] = lambda: DONE) -> None:
        """One case: success, or exit 2 and one line with one of the names in it. `work` is done if no arguments are given."""
        self.capfd.readouterr()
        self.cases += 1
        try:
            with alarm():
                code = run(arguments) if arguments else work()
        except (Exception, TooLongError):
            self.faults.append(f"{case} {arguments}: {traceback.format_exc()}")
            return
        out, err = self.capfd.readouterr()
        lines = [line for line in err.splitlines() if not CHATTER.match(line)]
        self.refused += code == 2
        if code == 2 and (
            len(lines) != 1 or not lines[0].startswith("sweep: ") or not any(n in lines[0] for n in names)
        ):
            self.faults.append(f"{case} {arguments}: {err}")
        elif code not in (0, 2):
            self.faults.append(f"{case} {arguments}: exit {code}, {err}, {out}")

    def expect(self, condition: bool, case: object) -> None:
        """One more thing that must hold."""
        if not condition:
            self.faults.append(str(case))

    def verdict(self) -> None:
        """Fail with the first few faults."""
        assert not self.faults, f"{len(self.faults)} of {self.cases}:\n" + "\n".join(self.faults[:5])


@pytest.fixture
def judge(capfd: pytest.CaptureFixture[str]) -> Iterator[Judge]:
    """A judge whose verdict ends the test."""
    found = Judge(capfd)
    yield found
    found.verdict()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, shared_cache: Path) -> Lab:
    """A finished study of two trials, and its best model beside it."""
    lab = Lab(tmp_path_factory.mktemp("finished"), shared_cache)
    spec = lab.spec(LINE.replace("to = 0.6", "to = 0.3"), epochs="1", seeds="[0]")
    assert lab.run("start", spec, "--workers", "0") == 0
    assert lab.run("best", "line", "--checkpoint", str(lab.folder / "model.npz"), "--trial", "0") == 0
    with closing(sqlite3.connect(lab.home.database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return lab


def cases(kind: str, count: int) -> Iterator[random.Random]:
    """A source of chance for each case, the same in every run."""
    return (random.Random(f"{kind} {number}") for number in range(count * SCALE))


def picture(suffix: str) -> bytes:
    """A small photo."""
    noise = np.random.default_rng(0).integers(0, 255, (SIZE, SIZE, 3), dtype=np.uint8)
    return cv2.imencode(suffix, noise)[1].tobytes()


def depth_png() -> bytes:
    """A small 16-bit depth map."""
    depth = np.random.default_rng(0).integers(500, 5000, (SIZE, SIZE)).astype(np.uint16)
    return cv2.imencode(".png", depth)[1].tobytes()


def npy(array: np.ndarray) -> bytes:
    """An array as a .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


# Kinds of input


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "count"), [("0.png", 100), ("0.jpg", 100), ("0.webp", 30), ("0.ppm", 20), ("0_depth.png", 100)]
)
def test_damaged_pictures(judge: Judge, tmp_path: Path, name: str, count: int) -> None:
    """A pair of which one file is damaged."""
    good = {f"0{kind}": picture(kind) for kind in (".png", ".jpg", ".webp", ".ppm")} | {"0_depth.png": depth_png()}
    for chance in cases(name, count):
        folder = tmp_path / str(judge.cases) / "scene"
        folder.mkdir(parents=True)
        for file in {"0_depth.png", name if name != "0_depth.png" else "0.png"}:
            (folder / file).write_bytes(good[file])
        reseal = name.endswith(".png") and chance.random() < 0.5
        others = tuple(good.values())
        (folder / name).write_bytes(resealed_png(good[name], chance) if reseal else damaged(good[name], chance, others))
        source = ["data", "preview", f"pairs:{folder.parent}", "--set", f"image_size={SIZE}"]
        # A size that differs is told of the other file of the pair.
        judge(
            f"{name} {judge.cases}", [*source, "--output", str(tmp_path / "sheet.png")], str(folder / name), str(folder)
        )


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "count"), [("_depth.npy", 130), ("_depth_mask.npy", 90)])
def test_damaged_arrays(judge: Judge, tmp_path: Path, ending: str, count: int) -> None:
    """DIODE's depth or mask is damaged."""
    draw = np.random.default_rng(0)
    depth = npy(draw.random((SIZE, SIZE, 1), np.float32) + 1)
    mask = npy(np.ones((SIZE, SIZE), np.float32))
    for chance in cases(ending, count):
        folder = tmp_path / str(judge.cases) / "val" / "indoors" / "scene_1"
        folder.mkdir(parents=True)
        for file, content in (("0.png", picture(".png")), ("0_depth.npy", depth), ("0_depth_mask.npy", mask)):
            (folder / file).write_bytes(content)
        bad = folder / f"0{ending}"
        wrong = tuple(
            npy(np.zeros(shape, kind)) for shape, kind in (((2, 2), "f4"), ((SIZE, SIZE), "S3"), ((SIZE, SIZE), "c8"))
        )
        text = re.sub(rb"\d+", str(chance.choice(HUGE)).encode(), bad.read_bytes()[:128], count=chance.randrange(1, 5))
        content = bad.read_bytes()
        bad.write_bytes(
            text + content[128:] if chance.random() < 0.2 else damaged(content, chance, (*wrong, picture(".png")))
        )
        source = ["data", "preview", f"diode:{tmp_path / str(judge.cases)}", "--set", f"image_size={SIZE}"]
        judge(f"{ending} {judge.cases}", [*source, "--output", str(tmp_path / "sheet.png")], str(bad))


def depth_file(kind: str) -> bytes:
    """A small depth map of another kind than PNG."""
    metres = np.random.default_rng(0).random((SIZE, SIZE), np.float32) + 1
    if kind == ".npy":
        return npy(metres)
    if kind == ".pgm":
        return b"P5\n%d %d\n65535\n" % (SIZE, SIZE) + (1000 * metres).astype(">u2").tobytes()
    if kind == ".pfm":
        return b"Pf\n%d %d\n-1.0\n" % (SIZE, SIZE) + metres.astype("<f4").tobytes()
    buffer = io.BytesIO()
    if kind == ".h5":
        with pytest.importorskip("h5py", reason="h5py is an extra").File(buffer, "w") as file:
            file.create_dataset("depth", data=metres, chunks=(SIZE, SIZE), compression="gzip")
    elif kind == ".exr":
        openexr = pytest.importorskip("OpenEXR", reason="OpenEXR is an extra")
        header = {"compression": openexr.ZIP_COMPRESSION, "type": openexr.scanlineimage}
        with tempfile.NamedTemporaryFile(suffix=kind) as file:
            openexr.File(header, {"Z": metres}).write(file.name)
            return Path(file.name).read_bytes()
    else:
        Image.fromarray(metres).save(buffer, "TIFF", compression="tiff_deflate")
    return buffer.getvalue()


def container(kind: str) -> bytes:
    """Three pictures with depth in one file."""
    draw, buffer = np.random.default_rng(0), io.BytesIO()
    if kind == "h5":
        with pytest.importorskip("h5py", reason="h5py is an extra").File(buffer, "w") as file:
            file["rgb"] = draw.integers(0, 255, (3, SIZE, SIZE, 3), dtype=np.uint8)
            file.create_dataset(
                "depth", data=draw.random((3, SIZE, SIZE)) + 1, chunks=(1, SIZE, SIZE), compression="gzip"
            )
            file["scene"] = [b"a", b"b", b"c"]
        return buffer.getvalue()
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is an extra")
    parquet = importlib.import_module("pyarrow.parquet")
    table = {"image": [picture(".png")] * 3, "depth": [depth_png()] * 3, "scene": ["a", "b", "c"]}
    parquet.write_table(pyarrow.table(table), buffer)
    return buffer.getvalue()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"), [(".npy", 60), (".pgm", 60), (".tiff", 60), (".pfm", 20), (".exr", 40), (".h5", 40)]
)
def test_damaged_depth_files(judge: Judge, tmp_path: Path, kind: str, count: int) -> None:
    """A pair whose depth is no PNG, and damaged."""
    good = depth_file(kind)
    for chance in cases(kind, count):
        folder = tmp_path / str(judge.cases) / "scene"
        folder.mkdir(parents=True)
        (folder / "0.png").write_bytes(picture(".png"))
        bad = folder / f"0_depth{kind}"
        others = tuple(depth_file(other) for other in (".npy", ".pgm", ".tiff"))
        bad.write_bytes(damaged(good, chance, (*others, npy(np.zeros((2, 2, 2))), npy(np.zeros(SIZE, "S3")))))
        source = ["data", "preview", f"pairs:{folder.parent}", "--set", f"image_size={SIZE}"]
        judge(f"{kind} {judge.cases}", [*source, "--output", str(tmp_path / "sheet.png")], str(bad))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["h5", "parquet"])
def test_damaged_containers(judge: Judge, tmp_path: Path, kind: str) -> None:
    """Many pictures in one damaged file, whose libraries are C: they neither end the process nor speak for themselves."""
    good, bad = container(kind), tmp_path / f"x.{kind}"
    for chance in cases(kind, 40):
        bad.write_bytes(damaged(good, chance, (depth_file(".npy"),)))
        source = ["data", "preview", f"{kind}:{bad}", "--set", f"image_size={SIZE}"]
        judge(f"{kind} {judge.cases}", [*source, "--output", str(tmp_path / "sheet.png")], str(bad))


@pytest.mark.slow
def test_damaged_lists(judge: Judge, tmp_path: Path) -> None:
    """A list, or CSV, with random edits; a line that still is one may name what is not there."""
    for name in "abc":
        (tmp_path / f"{name}.png").write_bytes(picture(".png"))
        (tmp_path / f"{name}_d.png").write_bytes(depth_png())
    for chance in cases("list", 120):
        comma = chance.choice((" ", ",", "\t"))
        lines = [comma.join((f"{name}.png", f"{name}_d.png", "518.8", "train")) for name in "abc"]
        text = "\n".join([comma.join(("rgb", "depth", "focal", "split")), *lines] if comma != " " else lines)
        for _ in range(chance.choice((1, 1, 3))):
            text = edited(text or "\n", chance)
        bad = tmp_path / "list.txt"
        content = text.encode()
        bad.write_bytes(damaged(content or b"\n", chance) if chance.random() < 0.3 else content)
        source = [
            "data",
            "preview",
            f"list:{bad}",
            "--set",
            f"image_size={SIZE}",
            "--output",
            str(tmp_path / "sheet.png"),
        ]
        judge(f"list {judge.cases}", source, str(tmp_path))


@pytest.mark.slow
def test_damaged_specs(judge: Judge, tmp_path: Path) -> None:
    """A spec with random edits. One that is still valid meets a home that cannot be made."""
    (tmp_path / "file").touch()
    spec = tmp_path / "fuzzed.toml"
    for chance in cases("spec", 200):
        text = LINE if chance.random() < 0.6 else Lab.SEARCH
        for _ in range(chance.choice((1, 1, 2, 5))):
            text = edited(text or "\n", chance)
        content = text.encode()
        spec.write_bytes(damaged(content or b"\n", chance) if chance.random() < 0.2 else content)
        judge(
            f"spec {judge.cases}",
            ["start", str(spec), "--home", str(tmp_path / "file" / "home")],
            str(spec),
            "file/home",
        )


@pytest.mark.slow
def test_damaged_checkpoints(judge: Judge, finished: Lab, tmp_path: Path) -> None:
    """A model file that predict is given."""
    good = (finished.folder / "model.npz").read_bytes()
    photo = tmp_path / "photo.png"
    photo.write_bytes(picture(".png"))
    for chance in cases("checkpoint", 150):
        bad = tmp_path / f"{judge.cases}.npz"
        bad.write_bytes(
            resealed_zip(good, chance) if chance.random() < 0.6 else damaged(good, chance, (photo.read_bytes(),))
        )
        judge(
            f"checkpoint {judge.cases}", ["predict", str(bad), str(photo), "--output", str(tmp_path / "out")], str(bad)
        )


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["WEBP", "BMP", "TIFF", "GIF", "AVIF", "PPM", "JPEG2000"])
def test_damaged_photographs(judge: Judge, finished: Lab, tmp_path: Path, kind: str) -> None:
    """A photograph that predict is given, in a format that training pictures do not have."""
    model, good = str(finished.folder / "model.npz"), io.BytesIO()
    decoded = cv2.imdecode(np.frombuffer(picture(".png"), np.uint8), cv2.IMREAD_COLOR)
    Image.fromarray(decoded).save(good, kind)
    for chance in cases(kind, 20):
        bad = tmp_path / f"{judge.cases}.jpg"
        bad.write_bytes(damaged(good.getvalue(), chance, (picture(".jpg"),)))
        judge(f"{kind} {judge.cases}", ["predict", model, str(bad), "--output", str(tmp_path / "out")], str(bad))


@pytest.mark.slow
def test_damaged_results(judge: Judge, finished: Lab, tmp_path: Path) -> None:
    """The stored predictions that a report shows; it is made without them where they are damaged."""
    paths = list(finished.home.root.glob("runs/*/*/result.npz"))
    good = {path: path.read_bytes() for path in paths}
    try:
        for chance in cases("result", 60):
            for path in paths:
                reseal = chance.random() < 0.7
                path.write_bytes(resealed_zip(good[path], chance) if reseal else damaged(good[path], chance))
            if judge.cases % 40 == 0:
                arguments = ["report", "line", "--home", str(finished.home.root), "--output", str(tmp_path / "r.html")]
            else:  # the whole page takes a second
                arguments = []
            judge(f"result {judge.cases}", arguments, work=lambda: show_samples(finished))
    finally:
        for path in paths:
            path.write_bytes(good[path])


def show_samples(lab: Lab) -> int:
    """The part of a report that reads result files."""
    sample_panels(Analysis(study_record(lab.store, lab.home, "line")))
    return 0


READING = (
    ["status", "line"],
    ["status", "--json"],
    ["list"],
    ["best", "line", "--json"],
    ["export", "line", "--format", "json"],
    ["export", "line", "--table", "epochs"],
)


@pytest.mark.slow
@pytest.mark.parametrize(("what", "count"), [("reading", 120), ("report", 5), ("resume", 30)])
def test_damaged_databases(judge: Judge, finished: Lab, tmp_path: Path, what: str, count: int) -> None:
    """Commands that only read leave even a damaged file as it is; resume names it before it writes."""
    good = finished.home.database.read_bytes()
    for chance in cases(f"database {what}", count):
        bad = tmp_path / f"{judge.cases}.db"
        broken = changed_rows(good, bad, chance) if chance.random() < 0.4 else damaged_page(good, chance)
        bad.write_bytes(broken)
        command = {
            "reading": chance.choice(READING),
            "report": ["report", "line", "--output", str(tmp_path / "r.html")],
        }.get(what, ["resume", "line", "--workers", "0"])
        judge(f"database {judge.cases}", [*command, "--home", str(finished.home.root), "--storage", str(bad)], str(bad))
        judge.expect(
            what == "resume" or bad.read_bytes() == broken, f"database {judge.cases}: {command} changed the file"
        )


def damaged_page(data: bytes, chance: random.Random) -> bytes:
    """A database file of which one page is damaged."""
    if chance.random() < 0.3:
        return damaged(data, chance)
    used = [place for place in range(0, len(data), 4096) if any(data[place : place + 4096])]
    place = chance.choice(used)
    if chance.random() < 0.5:
        page = bytes(flipped(data[place : place + 4096], chance, chance.choice((1, 5)), chance.choice((128, 4096))))
    else:
        page = damaged(data[place : place + 4096], chance).ljust(4096, b"\0")[:4096]
    return data[:place] + page + data[place + 4096 :]


def changed_rows(data: bytes, file: Path, chance: random.Random) -> bytes:
    """A sound database with one wrong value in it."""
    file.write_bytes(data)
    with closing(sqlite3.connect(file)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        ours = [name for name in tables if name.startswith("sweep_")]
        filled = [t for t in chance.choice((ours, ours, tables)) if connection.execute(f"SELECT 1 FROM {t}").fetchone()]
        table = chance.choice(filled)
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
        column = chance.choice(columns)
        (rowid,) = chance.choice(connection.execute(f"SELECT rowid FROM {table}").fetchall())
        (value,) = connection.execute(f"SELECT {column} FROM {table} WHERE rowid = ?", (rowid,)).fetchone()
        wrong = chance.choice(
            (-1, 2**40, 1e300, "x", "", b"\xff\0", "[1]", "{}", "null", "<script>", float("inf"), None)
        )
        if isinstance(value, str) and value.startswith(("{", "[")) and chance.random() < 0.7:
            wrong = changed_json(value, chance) if json.loads(value) else wrong
        elif isinstance(value, str) and "\n" in value and chance.random() < 0.7:
            wrong = edited(value, chance)
        with suppress(sqlite3.IntegrityError):  # a row's number can be nothing but a number
            connection.execute(f"UPDATE {table} SET {column} = ? WHERE rowid = ?", (wrong, rowid))
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    content = file.read_bytes()
    for suffix in ("", "-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    return content


@pytest.mark.slow
def test_damaged_caches(judge: Judge, finished: Lab, tmp_path: Path) -> None:
    """The decoded pictures of a home; a damaged file is named and left as it is."""
    home, model = tmp_path / "home", finished.folder / "model.npz"
    command = [
        "evaluate",
        str(model),
        "--data",
        "rooms",
        "--set",
        "rooms=12",
        "--set",
        "image_size=16",
        "--home",
        str(home),
    ]
    assert run(command) == 0
    files = sorted(home.glob("cache/*-v*/*"))  # what is only remembered (cache/known) is made anew
    for chance in cases("cache", 40):
        file = chance.choice(files)
        good = file.read_bytes()
        whole = (
            changed_json(good.decode(), chance).encode() if file.suffix == ".json" and chance.random() < 0.5 else None
        )
        bad = whole or damaged(good, chance)
        file.write_bytes(bad)
        judge(f"cache {judge.cases}", command, str(file), str(file.parent))
        judge.expect(file.read_bytes() == bad, f"cache {judge.cases}: {file} was changed")
        file.write_bytes(good)


@pytest.mark.slow
def test_damaged_archives(judge: Judge, tmp_path: Path) -> None:
    """What a server may send; nothing of it lands beside its folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name in ("val/a/0.png", f"val/{'long/' * 30}0.png"):
            info = tarfile.TarInfo(name)
            info.size = 700
            tar.addfile(info, io.BytesIO(random.Random(0).randbytes(700)))
    good = buffer.getvalue()
    for chance in cases("archive", 130):
        archive, output = tmp_path / "archive", tmp_path / "here" / str(judge.cases)
        content = resealed_tar(good, chance) if chance.random() < 0.7 else damaged(good, chance)
        archive.write_bytes(content)
        md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
        arguments = ["--url", archive.as_uri(), "--md5", md5, "--output", str(output)]
        judge(f"archive {judge.cases}", ["data", "fetch", "diode", *arguments], str(output), "the archive")
        judge.expect(
            {p.name for p in output.iterdir()} <= {"val", "val.tar.gz.part", ".fetch.lock"}, f"archive {judge.cases}"
        )
        judge.expect(
            {p.name for p in tmp_path.iterdir()} == {"archive", "here"}, f"archive {judge.cases} wrote outside"
        )


@pytest.mark.slow
def test_real_processes_end_as_well(finished: Lab, tmp_path: Path) -> None:
    """A few of each as processes of their own: nothing of a traceback on their real standard error."""
    (tmp_path / "home").touch()
    database, photo = finished.home.database.read_bytes(), picture(".png")
    for number, chance in enumerate(cases("process", 24)):
        bad = tmp_path / f"{number}.bad"
        if number % 3 == 0:
            bad = bad.with_suffix(".toml")
            bad.write_text(edited(LINE, chance))
            arguments = ["start", str(bad), "--home", str(tmp_path / "home" / "none")]
        elif number % 3 == 1:
            bad.write_bytes(damaged_page(database, chance))
            arguments = [*chance.choice(READING[:3]), "--home", str(finished.home.root), "--storage", str(bad)]
        else:
            bad = tmp_path / str(number) / "scene" / "0.png"
            bad.parent.mkdir(parents=True)
            bad.write_bytes(damaged(photo, chance))
            bad.with_name("0_depth.png").write_bytes(depth_png())
            arguments = ["data", "preview", f"pairs:{bad.parent.parent}", "--output", str(tmp_path / "sheet.png")]
        done = subprocess.run(
            [sys.executable, "-m", "depth_loss_sweep", *arguments],
            cwd=ROOT, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode in (0, 2), done.stderr
        lines = [line for line in done.stderr.splitlines() if not CHATTER.match(line)]
        if done.returncode == 2:
            assert len(lines) == 1, done.stderr
            assert lines[0].startswith("sweep: ")
            assert any(name in lines[0] for name in (str(bad), str(bad.parent / "0"), "home/none"))
        else:
            assert not lines
