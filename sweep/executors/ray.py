"""Runs on a cluster of Ray: an actor a slot, warm and reused; records come as a stream.

Ray places the actors, tells us when one dies, and ends all of them with this process, however that ends. It repeats nothing by
itself: what becomes of a run whose actor died is the coordinator's decision.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from depth_loss_sweep.errors import StudyError
from depth_loss_sweep.executors import UNFIT, Event, RunRequest
from depth_loss_sweep.executors.ray_cluster import SILENT_S, Cluster, Need, connect, memory_bytes, said
from depth_loss_sweep.executors.ray_worker import Worker
from depth_loss_sweep.paths import Home
from depth_loss_sweep.words import counted

if TYPE_CHECKING:
    from depth_loss_sweep.model.runtime import Machine

TICK_S = 0.5
IDLE_S = 60.0
"""A worker that has had nothing to do for so long gives its place back to the cluster."""
PACE = 10
"""One part in so many of the time goes to asking thousands of streams whether they have something."""
END_S = 5.0
MAX_DEATHS = 3
"""So many actors that die before the first one is ready are no accident."""
PAUSE_S = 2.0
"""How long no actor is made after one died before it was ready: until Ray has missed a node, it places others there."""


@dataclass
class _Slot:
    """An actor, and what it is at."""

    actor: Any
    need: Need
    arrival: Any
    """Its first call until it is over, or one that tells whether it is still there."""
    node: str = ""
    """The id of the node it is on, once it is there, and what that is called."""
    name: str = "a node"
    call: int = 0
    request: RunRequest | None = None
    stream: Any = None
    is_cancelled: bool = False
    since: float = 0.0
    """When it had something to do last."""

    @property
    def is_idle(self) -> bool:
        """Whether it can be given a run."""
        return self.arrival is None and self.request is None and self.stream is None


class RayExecutor:
    """Up to as many actors as it is opened for, or as there is room for, made when there are runs for them."""

    worker: type = Worker
    """What an actor is made of."""
    threads = 2
    """How many of its methods an actor may be at: to train, and to hear that it need not."""

    def __init__(
        self,
        home: Home,
        address: str | None = None,
        cpus: float = 1.0,
        gpus: float | None = None,
        memory: str | None = None,
        accelerator: str | None = None,
        workers: int | None = None,
    ) -> None:
        self.ray, self.where, self.is_ours = connect(address)
        self.cluster = Cluster(self.ray, home.ray)
        self.gpus, self.need = gpus, dict[str, float]()
        self.fixed = {"CPU": cpus, "memory": memory_bytes(memory) if memory else 0.0}
        if accelerator:
            self.fixed[f"accelerator_type:{accelerator}"] = 0.001  # as Ray itself asks for one
        self.wanted = workers
        self.slots: list[_Slot] = []
        self.queue: list[RunRequest] = []
        """Runs that no slot has yet."""
        self.events: list[Event] = []
        self.machines: dict[str, Machine] = {}
        self.calls, self.again = count(1), 0.0
        self.deaths, self.not_before, self.has_been_ready = 0, 0.0, False

    def open(self, workers: int | None, device: str, should_stop: Callable[[], bool]) -> int:
        """Set how many actors there may be; by default, as the cluster grows and shrinks, as many as it has room for."""

        def on_wait(_: str) -> None:
            if should_stop():
                raise KeyboardInterrupt

        self.wanted = workers
        self._look_round(device, on_wait)
        return self.size

    def describe(self) -> str:
        """How many actors, on how many nodes, and which are not used."""
        nodes = [node for node in self.cluster.nodes.values() if node.is_fit and node.slots(self.need)]
        faults = [f"; {line}" for line in self.cluster.tell_faults()]
        return f"up to {counted(self.size, 'worker')} on {counted(len(nodes), 'node')} of Ray's cluster at {self.where}{''.join(faults)}"

    @property
    def size(self) -> int:
        """How many actors there may be now."""
        return self.cluster.slots(self.need) if self.wanted is None else self.wanted

    def machine(self, device: str, on_wait: Callable[[str], None]) -> "Machine":
        """What the first worker finds that is there; asked once."""
        if device in self.machines:
            return self.machines[device]
        self._look_round(device, on_wait)
        begun = time.monotonic()
        while device not in self.machines:
            on_wait("")
            idle = [slot for slot in self.slots if slot.is_idle]
            if not idle:
                if not self.slots:
                    self._hire(())
                self._listen(TICK_S)
                if time.monotonic() > begun + SILENT_S:
                    on_wait(f"Ray's cluster has no room for a worker yet ({said(self.need)}); waiting for it")
                continue
            answer = idle[0].actor.machine.remote(device)
            try:
                while not self.ray.wait([answer], timeout=TICK_S)[0]:
                    on_wait("")
                self.machines[device] = self.ray.get(answer)
            except self.ray.exceptions.RayError as error:
                self._bury(idle[0], error)
        return self.machines[device]

    def free(self) -> int:
        """How many more runs there could be slots for."""
        return self.size - len(self.queue) - sum(slot.request is not None for slot in self.slots)

    def submit(self, request: RunRequest) -> None:
        """Give the run to an idle slot, or to the next that there is."""
        self.queue.append(request)
        self._hand_out()
        if request in self.queue:
            self.events.append(Event(request.run, "queued"))

    def poll(self, timeout: float) -> list[Event]:
        """What actors have said, and what became of them and of their nodes."""
        end = time.monotonic() + timeout
        while True:
            self.cluster.refresh()
            self._hand_out()
            self._listen(max(0.0, min(TICK_S, end - time.monotonic())))
            self.events += [Event("", "note", {"text": line}) for line in self.cluster.tell_faults()]
            if self.events or time.monotonic() >= end:
                events, self.events = self.events, []
                return events

    def cancel(self, run: str) -> None:
        """Tell the run's actor to stop at its next step."""
        self.queue = [request for request in self.queue if request.run != run]
        for slot in self.slots:
            if slot.request is not None and slot.request.run == run:
                slot.is_cancelled = True
                slot.actor.cancel.remote(slot.call)

    def detach(self) -> str:
        """No actor outlives its coordinator."""
        self.close()
        return ""

    def close(self) -> None:
        """End all actors, and wait for it: what they had finished is in their checkpoints."""
        streams = [slot.stream for slot in self.slots if slot.stream is not None]
        for slot in self.slots:
            self.ray.kill(slot.actor)
        if streams:
            self.ray.wait(streams, num_returns=len(streams), timeout=END_S)
        self.slots.clear()
        self.queue.clear()
        self.cluster.close()
        if self.is_ours:
            self.ray.shutdown()
            self.is_ours = False

    # Nodes and slots

    def _look_round(self, device: str, on_wait: Callable[[str], None]) -> None:
        """Look at the cluster's nodes, and settle what a worker takes up; `StudyError` where none of them has it."""
        self.cluster.refresh(now=True)
        while self.cluster.is_looking:
            self.cluster.wait(TICK_S)
            on_wait("")
        self.cluster.require_a_fit_node()
        is_cuda = device.startswith("cuda") or (device == "auto" and self.cluster.has("GPU"))
        gpus = self.gpus if self.gpus is not None else float(is_cuda)
        need = {name: much for name, much in {**self.fixed, "GPU": gpus}.items() if much}
        if need != self.need:
            self.need = need
            for slot in [slot for slot in self.slots if slot.request is None]:
                self._dismiss(slot)
        if not self.size:
            raise StudyError(
                f"no node of Ray's cluster has what a worker is to have ({said(self.need)}): choose otherwise with --option, or, where "
                f"the cluster grows as it is asked, say how many with --workers"
            )

    def _hand_out(self) -> None:
        """Give waiting runs to idle slots, make slots for the others, and let go of those that nobody needs."""
        for request in list(self.queue):
            slot = next((slot for slot in self.slots if slot.is_idle and self._suits(slot, request)), None)
            if slot is not None:
                self.queue.remove(request)
                self._begin(slot, request)
        # While a node is looked at, or may be gone, an actor could be placed on it.
        if not self.cluster.is_looking and time.monotonic() >= self.not_before:
            coming = sum(slot.request is None and not slot.is_idle for slot in self.slots)
            for request in self.queue[coming:]:
                self._make_room(request)
        for slot in [slot for slot in self.slots if slot.is_idle]:
            node = self.cluster.nodes.get(slot.node)
            if node is None or node.fault or (not self.queue and time.monotonic() > slot.since + IDLE_S):
                self._dismiss(slot)

    def _suits(self, slot: _Slot, request: RunRequest) -> bool:
        """Whether a run can be trained there."""
        node = self.cluster.nodes.get(slot.node)
        return node is not None and node.is_fit and node.name not in request.avoid

    def _make_room(self, request: RunRequest) -> None:
        """Have one more slot where the run can be trained, in place of an idle one if there is no other way."""
        if not any(node.is_fit and node.name not in request.avoid for node in self.cluster.nodes.values()):
            self.queue.remove(request)
            where = ", ".join(request.avoid) or "all"
            reason = f"{where} failed it, and Ray's cluster has no other node for it"
            self.events.append(Event(request.run, "failed", {"kind": "disk", "reason": reason}))
            return
        if len(self.slots) >= self.size:
            idle = next((slot for slot in self.slots if slot.is_idle), None)
            if idle is None:
                return
            self._dismiss(idle)
        self._hire(request.avoid)

    def _hire(self, avoid: tuple[str, ...]) -> None:
        nodes = [node.id for node in self.cluster.nodes.values() if not node.is_fit or node.name in avoid]
        need = dict(self.need)
        options: dict[str, Any] = {
            "num_cpus": need.pop("CPU", 0),
            "num_gpus": need.pop("GPU", 0),
            "memory": int(need.pop("memory", 0)) or None,
            "resources": need,
            "label_selector": {"ray.io/node-id": f"!in({','.join(nodes)})"} if nodes else None,
        }
        kind = self.ray.remote(max_restarts=0, max_task_retries=0, max_concurrency=self.threads)(self.worker)
        actor = kind.options(scheduling_strategy="SPREAD", **options).remote()
        self.slots.append(_Slot(actor, self.need, actor.arrive.remote()))

    def _dismiss(self, slot: _Slot) -> None:
        self.slots.remove(slot)
        self.ray.kill(slot.actor)

    def _begin(self, slot: _Slot, request: RunRequest) -> None:
        slot.call, slot.request, slot.is_cancelled = next(self.calls), request, False
        slot.stream = slot.actor.train.options(num_returns="streaming").remote(slot.call, asdict(request))

    # What they say

    def _listen(self, seconds: float) -> None:
        """Take in what there is, waiting for the first of it."""
        end = time.monotonic() + seconds
        time.sleep(max(0.0, min(self.again, end) - time.monotonic()))
        waited = {slot.arrival if slot.stream is None else slot.stream: slot for slot in self.slots if not slot.is_idle}
        questions = [node.question for node in self.cluster.asked]
        if not waited and not questions:
            time.sleep(max(0.0, end - time.monotonic()))
            return
        either = [*waited, *questions]
        if not self.ray.wait(either, timeout=max(0.0, end - time.monotonic()))[0]:
            return
        begun = time.monotonic()
        ready = self.ray.wait(either, num_returns=len(either), timeout=0)[0]
        self.again = begun + PACE * (time.monotonic() - begun)
        self.cluster.wait(0)
        for slot in [waited[each] for each in ready if each in waited]:
            try:
                if slot.stream is None:
                    self._welcome(slot)
                else:
                    self._hear(slot)
            except self.ray.exceptions.RayError as error:
                self._bury(slot, error)

    def _welcome(self, slot: _Slot) -> None:
        slot.node, slot.arrival, slot.since = self.ray.get(slot.arrival), None, time.monotonic()
        if slot.request is not None:
            raise self.ray.exceptions.RayError("it could not be heard any more")
        self.has_been_ready = True
        if slot.node not in self.cluster.nodes:
            self.cluster.refresh(now=True)
        if slot.node in self.cluster.nodes:
            slot.name = self.cluster.nodes[slot.node].name

    def _hear(self, slot: _Slot) -> None:
        """All that an actor has said by now."""
        while True:
            try:
                event: Event = self.ray.get(next(slot.stream))
            except StopIteration:
                slot.stream, slot.since = None, time.monotonic()
                return
            if event.ends:
                slot.request = None
            if event.kind == "failed" and event.payload["kind"] in UNFIT:
                event.payload["node"] = slot.name
            if not slot.is_cancelled:
                self.events.append(event)
            if not self.ray.wait([slot.stream], timeout=0)[0]:
                return

    def _bury(self, slot: _Slot, error: Exception) -> None:
        """Conclude from how an actor ended, or could not be heard any more."""
        if slot not in self.slots:
            return
        if isinstance(error, self.ray.exceptions.ActorUnavailableError):
            # It, its node or the network: ask until that is known.
            slot.stream, slot.arrival, self.again = None, slot.actor.arrive.remote(), time.monotonic() + TICK_S
            return
        name, request = slot.name, slot.request
        self._dismiss(slot)
        self.cluster.refresh(now=True)
        is_lost = bool(slot.node) and slot.node not in self.cluster.nodes
        if not slot.node:
            self.deaths, self.not_before = self.deaths + 1, time.monotonic() + PAUSE_S
            if self.deaths >= MAX_DEATHS and not self.has_been_ready:
                raise StudyError(f"workers on Ray's cluster end before they are ready: {_reason(error)}")
        if request is None or slot.is_cancelled:
            return
        kind, payload = "died", {"reason": f"its worker on {name} ended ({_reason(error)})"}
        if getattr(error, "preempted", False):
            kind, payload = "preempted", {"reason": f"{name} had to make room"}
        elif is_lost:
            kind, payload = "lost", {"node": name}
        elif "low on memory" in str(error):
            kind, payload = "failed", {"kind": "memory", "reason": f"Ray ended its worker on {name} for its memory"}
        self.events.append(Event(request.run, kind, payload))  # type: ignore[arg-type]


def _reason(error: Exception) -> str:
    """Why an actor ended, as Ray says it, without its advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    line = next((line for line in lines if line.startswith("The actor is dead because")), lines[-1])
    return line.removeprefix("The actor is dead because ").partition(" Some common causes")[0][:300]
