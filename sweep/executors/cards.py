"""Which worker computes on which graphics card of this machine: each worker is shown one, so that to it "cuda" is that one."""

import os
from collections.abc import Sequence

VISIBLE = "CUDA_VISIBLE_DEVICES"


def shared_cards(device: str, count: int, visible: str | None = None) -> tuple[str, ...]:
    """The cards that workers share, as CUDA names them; none where there is no choice: one card, or one that was asked for.

    `count` are those that torch sees, `visible` those that this process is shown, where somebody has chosen.
    """
    if device != "cuda" or count < 2:
        return ()
    names = visible.split(",") if visible else map(str, range(count))
    return tuple(name.strip() for name in names)[:count]


def next_card(cards: Sequence[str], taken: Sequence[str]) -> str:
    """The card with the fewest workers, the first of those."""
    return min(cards, key=taken.count)


def show_only(card: str) -> None:
    """From now on this process has one card; before CUDA is started in it."""
    os.environ[VISIBLE] = card
