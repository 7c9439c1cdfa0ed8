"""`python -m tests.benchmarks [NAME...] [--quick]`: measure, print, and add what was found to tests/benchmarks/RESULTS.md.

Names: cpu, overhead, growth, records, page, profiling, gpu, weightings, terms, answer, scenes, front, race, finals, confirm, claims,
samplers, importance, peers; default: all. `--quick` tries out in small and keeps nothing.
"""

import argparse
import importlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.benchmarks import machine

HERE = Path(__file__).parent
RESULTS = HERE / "RESULTS.md"
BUILD = HERE.parents[1] / "build" / "benchmarks"
PEERS_PYTHON = HERE.parents[1] / ".venv-peers" / "bin" / "python"
NAMES = (
    "cpu",
    "overhead",
    "growth",
    "records",
    "ray",
    "page",
    "profiling",
    "gpu",
    "weightings",
    "terms",
    "answer",
    "scenes",
    "front",
    "race",
    "finals",
    "confirm",
    "claims",
    "samplers",
    "importance",
    "peers",
)
MARK = "<!-- newest first: benchmarks add theirs below this line -->\n"


def main() -> None:
    """Run the chosen benchmarks one after the other."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--quick", action="store_true", help="try everything out in small; keep nothing")
    parser.add_argument("--data", help="peers: pairs:PATH; default: rendered rooms, written as JPEG and PNG")
    given = parser.parse_args()
    unknown = set(given.names) - {*NAMES}
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}; expected {', '.join(NAMES)}")
    parts = [f"## {machine.about()}\n"]
    for name in given.names or NAMES:
        print(f"{name} ...", flush=True)
        text = _run(name, given.quick, given.data)
        print(text, flush=True)
        parts.append(f"### {name}\n\n{text}")
        if not given.quick:
            _keep("\n".join(parts))


def _run(name: str, quick: bool, data: str | None) -> str:
    """What a benchmark found, as Markdown."""
    if name == "peers":
        return "\n".join(_peers(quick, data, threads) for threads in sorted({1, machine.cores()}))
    module = importlib.import_module(f"tests.benchmarks.{name}")
    found = module.measure(quick)
    if name == "growth":
        module.plot(found, BUILD / "growth.html")
        return "\n".join(_growth_table(title, rows, module.slopes(rows)) for title, rows in found.items())
    if not found:
        return "Not measured: this machine lacks what it needs.\n"
    return "\n".join(value if isinstance(value, str) else _table(title, value) for title, value in found.items())


def _table(title: str, values: dict[str, float]) -> str:
    lines = [f"| {key} | {_number(value)} |" for key, value in values.items()]
    return "\n".join([f"| {title} | |", "|---|---|", *lines, ""])


def _growth_table(title: str, rows: dict[int, dict[str, float]], slopes: dict[str, float]) -> str:
    keys = list(dict.fromkeys(key for row in rows.values() for key in row))
    head = f"| {title} | " + " | ".join(f"{size:,}" for size in rows) + " | slope at the end |"
    lines = [
        f"| {key} | " + " | ".join(_number(row.get(key)) for row in rows.values()) + f" | {_number(slopes.get(key))} |"
        for key in keys
    ]
    return "\n".join([head, "|---" * (len(rows) + 2) + "|", *lines, ""])


def _number(value: Any) -> str:
    if isinstance(value, int | float):
        return f"{value:.3g}" if isinstance(value, float) and abs(value) < 1000 else f"{value:,.0f}"
    return "" if value is None else str(value)


def _peers(quick: bool, data: str | None, threads: int) -> str:
    """Beside other people's code, in the environment of its own that `make bench` sets up; all on so many cores."""
    if not PEERS_PYTHON.exists():
        return "Not measured: `make bench` sets up the environment with the peers.\n"
    command = [str(PEERS_PYTHON), "-m", "tests.benchmarks.peers", "--threads", str(threads)]
    command += ["--data", data] if data else []
    command += ["--rounds", "2", "--images", "48"] if quick else []
    done = subprocess.run(command, cwd=HERE.parents[1], stdout=subprocess.PIPE, text=True)
    if done.returncode:
        return f"Failed with exit status {done.returncode}.\n"
    found = json.loads(done.stdout)
    BUILD.mkdir(parents=True, exist_ok=True)
    (BUILD / f"peers{threads}.json").write_text(done.stdout)
    parts = [f"#### On {threads} core{'s' if threads > 1 else ''}\n"]
    parts += [f"Left out: {json.dumps(found['unavailable'])}\n"] if found["unavailable"] else []
    parts += [f"{name}: {text}.\n" for name, text in found["notes"].items()]
    for title, value in found.items():
        if title not in ("about", "notes", "unavailable"):
            parts.append(_table(title, dict(_leaves(value))))
    return "\n".join(parts)


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """The numbers of a tree, named by their paths; what is listed run by run is left out."""
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _leaves(part, f"{path}, {key}" if path else key)
    elif isinstance(value, list):
        for part in value:
            if isinstance(part, dict) and "shape" in part:
                shape = "x".join(str(side) for side in part["shape"])
                yield from _leaves({key: found for key, found in part.items() if key != "shape"}, f"{path}{shape}")
    else:
        yield path, value


def _keep(entry: str) -> None:
    """Put this call's entry at the top of the history, in place of what it wrote before."""
    text = RESULTS.read_text(encoding="utf-8")
    before, _, after = text.partition(MARK)
    title = entry.partition("\n")[0]
    older = after
    if after.lstrip().startswith(title):
        rest = after.lstrip()[len(title) :]
        place = rest.find("\n## ")
        older = rest[place + 1 :] if place >= 0 else ""
    RESULTS.write_text(f"{before}{MARK}\n{entry.rstrip()}\n\n{older.lstrip()}", encoding="utf-8")


if __name__ == "__main__":
    main()
