"""What a run does when: the order of its pictures, with and without copies of them."""

import pytest

from depth_loss_sweep.model.schedule import epoch_order


def test_the_order_of_an_epoch_is_for_good() -> None:
    """It comes from seed and epoch alone, and is what earlier versions trained by."""
    orders = [epoch_order(7, 2, seed=3, epoch=epoch).tolist() for epoch in (1, 2)]
    assert orders == [[[3, 1], [5, 6], [4, 0], [2, 3]], [[1, 2], [0, 5], [3, 4], [6, 1]]]


@pytest.mark.parametrize("copies", [0, 1, 4])
def test_a_pass_takes_every_picture_and_copy_once(copies: int) -> None:
    """An epoch has as many steps as without copies; so many epochs as there are of each picture take all of them."""
    passes = [
        [epoch_order(12, 4, seed=0, epoch=start + part, copies=copies) for part in range(copies + 1)]
        for start in (1, copies + 2)
    ]
    assert all(order.shape == (3, 4) for orders in passes for order in orders)
    for orders in passes:
        assert sorted(n for order in orders for n in order.flatten().tolist()) == list(range(12 * (copies + 1)))
    assert [o.tolist() for o in passes[0]] != [o.tolist() for o in passes[1]]
