"""Runs as jobs of a real Slurm: killed coordinators, preempted jobs, lost nodes change nothing. One cluster for all tests."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from depth_loss_sweep.errors import SlurmAwayError, SweepError
from depth_loss_sweep.executors import RunRequest, make_executor
from depth_loss_sweep.executors.job import decoded, encoded
from depth_loss_sweep.executors.slurm_commands import names_of, seconds_of, submit_job
from depth_loss_sweep.paths import Home
from tests.sweep.clusters import SECRET, holders_of, hurry, slow_spec
from tests.sweep.conftest import Lab
from tests.sweep.slurm import Cluster, need_slurm

LOW = ("--executor", "slurm", "--option", "partition=low", "--option", "patience=10")
QUIET = ("--option", f"setup=echo {os.nice(0)} > /proc/self/autogroup")
"""Jobs are as nice as whoever runs these tests."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes of one core."""
    need_slurm()
    cluster = Cluster(tmp_path_factory.mktemp("slurm"), nodes=3)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in cluster.environment.items():
            patch.setenv(name, value)
        yield cluster
    cluster.close()


def at_work(cluster: Cluster, *states: str) -> dict[str, str]:
    """The runs that have a job, which is not over, or in one of these states: run -> number."""
    return {comment.partition("@")[0]: job for job, comment in cluster.jobs(*states).items() if "@" in comment}


def begun(cluster: Cluster, lab: Lab, is_further: bool = True) -> dict[str, str]:
    """Of the runs whose job is at work those that have come further in their present attempt than in those before, or to an epoch's end."""
    found = {}
    for run, job in at_work(cluster, "RUNNING").items():
        said = [path.read_text() for path in sorted((lab.home.run(run) / "slurm").glob(f"{job}.*.jsonl"))]
        *before, now = [text.count('"kind": "epoch"') for text in said] or [0]
        if now > (max(before, default=0) if is_further else 0) and '"preempted"' not in said[-1]:
            found[run] = job
    return found


def preempt(cluster: Cluster) -> str:
    """Take all nodes from whoever has them; the number of the job that has them then."""
    high = ("--partition=high", f"--nodes={len(cluster.names)}", "--output=/dev/null", "--wrap=sleep 999")
    job = cluster.call("sbatch", "--parsable", *high).strip()
    cluster.wait(lambda: job in cluster.jobs("RUNNING"))
    return job


def test_ctrl_c_reaches_no_command_of_slurms(tmp_path, monkeypatch) -> None:
    """Each is asked in a session of its own; one that is ended all the same has not answered, and is no refusal."""
    for command in ("sbatch", "squeue"):
        (tmp_path / command).write_text("#!/bin/sh\ncut -d' ' -f6 /proc/$$/stat\n")
        (tmp_path / command).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    sessions = {submit_job(["true"], "", []), submit_job(["true"], "", [])}
    assert len(sessions) == 2 and str(os.getsid(0)) not in sessions
    for command in ("sbatch", "squeue"):
        (tmp_path / command).write_text("#!/bin/sh\nkill -TERM $$\nsleep 9\n")
    for ask in (lambda: submit_job(["true"], "", []), lambda: names_of([])):
        with pytest.raises(SlurmAwayError, match="was ended by signal 15"):
            ask()


@pytest.mark.slow
def test_a_study_goes_through_kills_preemption_a_time_limit_and_a_lost_node(cluster, lab, new_lab) -> None:
    """It ends with the numbers of the same study trained here; jobs outlive their coordinator, and the next one follows them."""
    spec = slow_spec(lab)
    first = lab.spawn("start", spec, *LOW, *QUIET, env={**os.environ, "PGPASSWORD": SECRET, "SWEEP_TOKEN": SECRET})
    cluster.wait(lambda: bool(begun(cluster, lab)) or first.poll() is not None)
    first.kill()
    jobs = at_work(cluster)
    assert not holders_of(SECRET, first.pid, cluster.folder, lab.home.root)
    others = preempt(cluster)
    assert first.communicate() and len(jobs) == 3 and not at_work(cluster, "RUNNING")

    second = lab.spawn("resume", "line", *LOW, *QUIET)
    lab.wait_for(lambda: {run["state"] for run in lab.store.runs("line")} == {"waiting"} or second.poll() is not None)
    assert at_work(cluster) == jobs
    cluster.call("scancel", others)
    cluster.wait(lambda: bool(begun(cluster, lab)))
    limited = next(iter(begun(cluster, lab).values()))
    cluster.call("scancel", "--signal=USR1", "--batch", limited)  # as Slurm does before a time limit
    cluster.wait(lambda: bool({*begun(cluster, lab).values()} - {limited}))
    victim = next(job for job in begun(cluster, lab).values() if job != limited)
    node = cluster.node_of(victim)
    cluster.kill(node)
    hurry(lab)
    _, said = second.communicate()
    cluster.start(node)
    assert second.returncode == 0, said
    assert "had to make room" in said and "its time limit came on" in said and f"{node} was lost" in said, said
    assert "failed" not in said
    cluster.wait(lambda: not at_work(cluster))

    alone = new_lab()
    assert alone.run("start", spec, "--workers", "3") == 0
    assert lab.numbers("line") == alone.numbers("line")
    assert not [path for path in lab.home.root.rglob("*") if path.suffix in (".pkl", ".pickle", ".jsonl")]


@pytest.mark.slow
def test_five_preemptions_a_restarted_controller_and_a_time_limit_fail_no_run(cluster, lab, new_lab) -> None:
    """All of it happens to one job, by Slurm itself; the run goes on from its last epoch, with the numbers of one left alone."""
    spec = slow_spec(lab, to=0.0, epochs=200)

    def is_on() -> bool:
        return bool(begun(cluster, lab, is_further=False)) or study.poll() is not None

    study = lab.spawn("start", spec, *LOW, *QUIET)
    for number in range(5):
        cluster.wait(is_on)
        if number == 2:
            cluster.kill_controller()
            with pytest.raises(subprocess.CalledProcessError):
                cluster.jobs()
            cluster.start_controller()
            cluster.wait(is_on)
        other = preempt(cluster)
        assert not at_work(cluster, "RUNNING")
        cluster.call("scancel", other)
    cluster.wait(is_on)
    assert study.poll() is None, study.communicate()
    ((run, job),) = at_work(cluster).items()
    attempts = len([*(lab.home.run(run) / "slurm").glob(f"{job}.*.jsonl")])
    cluster.call("scontrol", "update", f"JobId={job}", "TimeLimit=1")
    cluster.wait(lambda: len([*(lab.home.run(run) / "slurm").glob(f"{job}.*.jsonl")]) > attempts)
    hurry(lab)
    _, said = study.communicate()
    assert study.returncode == 0 and "failed" not in said, said
    assert "had to make room" in said and "its time limit came on" in said, said
    alone = new_lab()
    assert alone.run("start", spec, "--workers", "0") == 0
    assert lab.numbers("line") == alone.numbers("line")


@pytest.mark.slow
def test_ctrl_c_leaves_jobs_to_the_next_session_and_a_cancelled_run_has_none(cluster, lab, capsys) -> None:
    """The line says how to end them and how to go on; with another executor, too. A deletion leaves none at work."""
    spec = slow_spec(lab, to=0.3)
    first = lab.spawn("start", spec, *LOW, *QUIET)
    cluster.wait(lambda: bool(begun(cluster, lab)) or first.poll() is not None)
    first.send_signal(signal.SIGINT)
    _, said = first.communicate()
    jobs = at_work(cluster)
    assert first.returncode == 130 and len(jobs) == 2, said
    assert "scancel --me --name=sweep-line" in said and "--executor slurm --option partition=low" in said

    run = next(iter(jobs))
    request = json.loads((lab.home.run(run) / "slurm" / "request.json").read_text())["request"]
    with closing(make_executor("slurm", 2, {"partition": "low"}, lab.home)) as executor:
        assert executor.open(2, "cpu", lambda: False) == 2
        executor.submit(RunRequest(**request))
        while not any(event.kind == "epoch" for event in executor.poll(1.0)):
            assert at_work(cluster)[run] == jobs[run]
        executor.cancel(run)
        while run in at_work(cluster):
            assert not executor.poll(1.0)
    (left,) = at_work(cluster).values()
    cluster.call("scontrol", "requeuehold", left)
    cluster.wait(lambda: left in at_work(cluster, "PENDING").values())
    capsys.readouterr()
    assert lab.run("delete", "line", "--yes") == 2
    assert "Slurm has 1 job of 'line'" in (said := capsys.readouterr().err) and "scancel --me --name=sweep-line" in said
    hurry(lab)
    assert lab.run("resume", "line", "--workers", "2") == 0
    numbers = lab.numbers("line")
    cluster.call("scontrol", "release", left)  # it begins after others have finished its run
    cluster.wait(lambda: not at_work(cluster))
    assert not [*lab.home.root.rglob("*.jsonl")] and lab.numbers("line") == numbers
    assert set(cluster.call("sinfo", "-hN", "-plow", "-o%T").split()) == {"idle"}
    assert lab.run("delete", "line", "--yes") == 0


@pytest.mark.slow
def test_a_node_that_cannot_train_is_avoided(cluster, lab) -> None:
    """Its runs go elsewhere, and the study ends well; what Slurm refuses is one line, with nothing begun."""
    python = lab.folder / "python"
    fault = '[ "$SLURMD_NODENAME" != n1 ] && [ "$4" != --machine ] && { echo there is no sweep here; exit 1; }'
    python.write_text(f'#!/bin/sh\n{fault}\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    spec = lab.spec(seeds="[0]", epochs="1", w="{ from = 0.0, to = 0.3, step = 0.3 }")
    refused = lab.spawn("start", spec, "--executor", "slurm", "--option", "partition=none")
    _, said = refused.communicate()
    assert refused.returncode == 2 and "invalid partition" in said and "Traceback" not in said
    assert not lab.store.studies()

    study = lab.spawn("start", spec, *LOW, *QUIET, "--option", f"python={python}")
    _, said = study.communicate()
    assert study.returncode == 0, said
    assert "failed it (its job" in said and "there is no sweep here" in said and "it goes elsewhere" in said


def test_time_limits_are_read_as_slurm_writes_them() -> None:
    """Minutes, and up to days; what is none of those leaves the grace as it was asked for."""
    written = ("30", "1:30", "2:00:00", "1-0", "1-2:30", "1-0:0:5", "UNLIMITED")
    assert [seconds_of(text) for text in written] == [1800, 90, 7200, 86400, 95400, 86405, None]


def test_events_cross_the_disk_to_the_last_bit() -> None:
    """Arrays of 32 bits stay such, and what is not finite stays what it is."""
    values = {"a": np.array([0.1, np.nan, np.inf], np.float32), "b": np.array([0.1, 1e-300])}
    kind, payload = decoded(encoded("finished", {"values": values, "keys": ("x",), "loss": math.inf}).encode())
    assert kind == "finished" and payload["loss"] == math.inf and payload["keys"] == ["x"]
    for name, array in values.items():
        assert payload["values"][name].dtype == array.dtype
        assert payload["values"][name].tobytes() == array.tobytes()


def test_a_machine_without_slurm_is_told_so(monkeypatch, tmp_path: Path) -> None:
    """In one line, before anything is made."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SweepError, match=r"needs Slurm's sbatch.*login node"):
        make_executor("slurm", None, {}, Home(tmp_path / "home"))
    assert not (tmp_path / "home").exists()
