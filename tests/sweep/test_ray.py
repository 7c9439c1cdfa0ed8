"""Runs on a real cluster of Ray: nodes come and go, coordinators and workers are killed, and no number changes."""

import os
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from depth_loss_sweep.errors import SweepError
from depth_loss_sweep.executors import Event, Executor, make_executor
from depth_loss_sweep.paths import Home
from tests.sweep.clusters import SECRET, holders_of, hurry, request_of, slow_spec
from tests.sweep.postgresql import free_port
from tests.sweep.ray import Cluster

STEPS = """
import time
from pathlib import Path

def steps(pred, target, mask, image):
    if pred.requires_grad:
        with Path({log!r}).open("a") as file:
            file.write("step\\n")
        time.sleep(0.2)
    return ((pred - target).abs() * mask).sum((1, 2, 3)) / mask.sum((1, 2, 3))
"""
"""A term that counts the steps of a training, whose epoch takes half a minute at least."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes of one core."""
    with TemporaryDirectory(prefix="ray") as folder:  # sockets want a short path
        cluster = Cluster(Path(folder), "n1")
        try:
            for name in ("n2", "n3"):
                cluster.start(name)
            yield cluster
        finally:
            cluster.close()


def on(cluster: Cluster) -> tuple[str, ...]:
    """The options that choose it."""
    return ("--executor", "ray", "--option", f"address={cluster.address}")


@pytest.mark.slow
def test_a_study_goes_through_killed_coordinators_workers_and_nodes(cluster, lab, new_lab) -> None:
    """It ends with the numbers of the same study trained here; nothing outlives its coordinator, and a node that joins is used."""
    spec = slow_spec(lab)
    first = lab.spawn("start", spec, *on(cluster), env={**os.environ, "PGPASSWORD": SECRET})
    cluster.wait(lambda: len(cluster.workers()) == 3 or first.poll() is not None)
    lab.wait_for_epochs(lab.epochs_done() + 6, first)
    assert not holders_of(SECRET, first.pid, cluster.folder, lab.home.root)
    first.kill()
    _, said = first.communicate()
    assert "up to 3 workers on 3 nodes" in said
    cluster.wait(lambda: not cluster.workers())

    second = lab.spawn("resume", "line", *on(cluster))
    lab.wait_for_each(3, second)  # then each node is at one
    os.kill(cluster.workers("n3")[0], signal.SIGKILL)
    cluster.wait(lambda: bool(cluster.workers("n3")) or second.poll() is not None)
    lab.wait_for_epochs(lab.epochs_done() + 6, second)
    cluster.kill("n2")
    cluster.start("n4")
    cluster.wait(lambda: bool(cluster.workers("n4")) or second.poll() is not None)
    hurry(lab)
    _, said = second.communicate()
    assert second.returncode == 0, said
    assert "its worker on n3 ended" in said and "attempt 2 of 3" in said and "n2 was lost" in said, said
    assert "failed" not in said and "raylet" not in said
    assert not cluster.workers() and not list((lab.home.root / "ray").iterdir())

    alone = new_lab()
    assert alone.run("start", spec, "--workers", "3") == 0
    assert lab.numbers("line") == alone.numbers("line")
    assert not [path for path in lab.home.root.rglob("*") if path.suffix in (".pkl", ".pickle")]


def heard(executor: Executor, *kinds: str) -> list[Event]:
    """What is said until one of these."""
    events: list[Event] = []
    while not any(event.kind in kinds for event in events):
        events += executor.poll(1.0)
    return events


@pytest.mark.slow
def test_a_cancelled_run_stops_in_the_midst_of_its_epoch(cluster, lab) -> None:
    """Its worker is free for the next one, which begins without a new process."""
    log = lab.folder / "steps"
    (lab.folder / "steps.py").write_text(STEPS.format(log=str(log)))
    terms = '[terms.steps]\nfunction = "steps.py:steps"\n'
    text = lab.LINE.replace("l1 = 0.1", "steps = 0.1") + terms
    long = request_of(lab, lab.spec(text, batch_size="1", rooms="150", name='"long"'))
    short = request_of(lab, lab.spec(epochs="1", name='"short"'))
    with closing(make_executor("ray", 1, {"address": cluster.address}, lab.home)) as executor:
        assert executor.open(1, "cpu", lambda: False) == 1 and executor.free() == 1
        executor.submit(long)
        assert executor.free() == 0
        begun = heard(executor, "begun")[-1].payload
        assert begun["host"] == socket.gethostname() and begun["environment"]["device"] == "cpu"
        while not log.exists():
            executor.poll(0.1)
        worker = cluster.workers()
        executor.cancel(long.run)
        executor.submit(short)
        assert [event.kind for event in heard(executor, "finished") if event.run == short.run][-1] == "finished"
        assert cluster.workers() == worker and log.read_text().count("step") < 100
    cluster.wait(lambda: not cluster.workers())


def elsewhere(folder: Path) -> tuple[str, ...]:
    """What has a command see another folder at that path: an empty one of its own."""
    return ("unshare", "--mount", "sh", "-c", f'mount -t tmpfs none "{folder}" && exec "$@"', "sh")


@pytest.mark.slow
def test_what_no_node_has_is_refused_before_the_study_is_there(cluster, lab) -> None:
    """In one line, unless --workers says that the cluster will grow."""
    study = lab.spawn("start", lab.spec(), *on(cluster), "--option", "cpus=99")
    _, said = study.communicate()
    assert study.returncode == 2 and "no node of Ray's cluster has what a worker is to have (99 CPU)" in said, said
    assert not lab.store.studies()


@pytest.mark.slow
def test_a_node_is_used_that_sees_the_home_folder_and_has_this_version(cluster, lab, tmp_path) -> None:
    """The others are named, with the reason; where there is none, the study does not begin."""
    (tmp_path / "sitecustomize.py").write_text("import depth_loss_sweep\ndepth_loss_sweep.__version__ = '0.0.1'\n")
    cluster.start("older", PYTHONPATH=str(tmp_path))
    if os.geteuid() == 0:
        cluster.start("apart", before=elsewhere(lab.home.root))
    spec = lab.spec(seeds="[0]", epochs="1", w="{ from = 0.0, to = 0.3, step = 0.3 }")
    study = lab.spawn("start", spec, *on(cluster))
    _, said = study.communicate()
    assert study.returncode == 0, said
    assert "older (older has sweep 0.0.1 (training" in said and "), the coordinator has" in said
    if os.geteuid() == 0:
        assert "apart (it does not share the home folder" in said
        alone = lab.spawn("start", spec, *on(cluster), "--name", "alone", before=elsewhere(lab.home.root))
        _, said = alone.communicate()
        assert alone.returncode == 2 and "no node of Ray's cluster can be used (" in said and "Traceback" not in said, (
            said
        )
        cluster.kill("apart")
    cluster.kill("older")


def test_a_cluster_that_is_not_there_is_one_line(lab) -> None:
    """It says how to start one; nothing is made."""
    for address, part in ((f"127.0.0.1:{free_port()}", "no cluster of Ray answers"), ("ray://here:1", "HOST:PORT")):
        refused = lab.spawn("start", lab.spec(), "--executor", "ray", "--option", f"address={address}")
        _, said = refused.communicate()
        assert refused.returncode == 2 and part in said and said.count("\n") == 1, said
    assert not lab.home.database.exists()


def test_ray_is_an_extra(monkeypatch, tmp_path: Path) -> None:
    """Where it isn't installed, a line says how it is."""
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SweepError, match=r"pip install 'depth-loss-sweep\[ray\]'"):
        make_executor("ray", None, {}, Home(tmp_path / "home"))
    assert not (tmp_path / "home").exists()


def test_a_password_among_the_arguments_is_refused(lab) -> None:
    """Ray shows every node the commands of its jobs."""
    refused = lab.spawn(
        "start", lab.spec(), "--executor", "ray", "--storage", "postgresql+psycopg://me:word@here/there"
    )
    _, said = refused.communicate()
    assert refused.returncode == 2 and "SWEEP_STORAGE" in said and "word@" not in said
