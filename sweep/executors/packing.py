"""How many runs share a graphics card, found out while they are trained (`--workers auto`).

A small network leaves most of a card idle, and a second run beside it takes what is left; how many pay depends on the network, the
pictures and the card. So each card gets one run more as long as its memory has room for it and the last one brought more epochs a second.
"""

import math
from dataclasses import dataclass, field

GAIN = 1.05
"""By so much epochs a second have to rise for a further run on each card to be worth its memory."""
ROOM = 1.25
"""A further run is begun where so many times of what one takes up is free: others may grow yet."""
EPOCHS = 3
"""So many epochs of each run are timed; the one in which it was begun is not, since it chooses kernels and records graphs."""


@dataclass(frozen=True)
class Room:
    """Bytes of a worker's card: those that are free, and all."""

    free: int
    total: int


@dataclass
class Packing:
    """The number of runs a card, as far as it is known yet; `clock` is in seconds."""

    cards: int = 1
    a_card: int = 1
    is_settled: bool = False
    rates: list[float] = field(default_factory=list)
    """Epochs a second of all runs together, with one run a card, with two, and so on."""
    _since: float | None = None
    _warm: set[str] = field(default_factory=set)
    _epochs: int = 0
    _need: float = 0.0
    _free: float = math.inf

    @property
    def size(self) -> int:
        """How many runs there may be."""
        return self.cards * self.a_card

    def epoch(self, run: str, clock: float, room: Room, running: int) -> str:
        """A run has ended an epoch, one of so many, with so many bytes of its card free; says what follows, if anything does."""
        if self.is_settled:
            return ""
        if running < self.size:  # what is left says nothing of a full card
            self._begin()
            return ""
        self._free, self._need = min(self._free, room.free), max(self._need, (room.total - room.free) / self.a_card)
        if self._since is None:
            self._warm.add(run)
            if len(self._warm) >= self.size:
                self._since = clock
            return ""
        self._epochs += 1
        if self._epochs < EPOCHS * self.size:
            return ""
        return self._judge(self._epochs / max(clock - self._since, 1e-9))

    def out_of_memory(self) -> str:
        """A run found no room: there is one fewer on each card from now on."""
        if self.a_card == 1:
            return ""
        return self._settle(self.a_card - 1, "its memory has no room for more")

    def _judge(self, rate: float) -> str:
        self.rates.append(rate)
        if self.a_card > 1 and rate < GAIN * self.rates[-2]:
            return self._settle(self.a_card - 1, f"{self.a_card} make it {rate / self.rates[-2]:.2f} times as fast")
        if self._free < ROOM * self._need:
            return self._settle(self.a_card, "its memory has no room for more")
        self.a_card += 1
        self._begin()
        gained = (
            f"; {self.a_card - 1} are {rate / self.rates[-2]:.2f} times as fast as {self.a_card - 2}"
            if self.a_card > 2
            else ""
        )
        return f"tries {self.a_card} runs on each card at once{gained}"

    def _settle(self, a_card: int, why: str) -> str:
        self.a_card, self.is_settled = a_card, True
        return f"{a_card} on each card at once from now on: {why}"

    def _begin(self) -> None:
        self._since, self._epochs = None, 0
        self._warm.clear()
