"""Augmentation: image and depth together, decided by the seed, one kind independent of the others."""

import pytest
import torch

from depth_loss_sweep.data.augment import KINDS, augment, augment_copies, draw_changes
from depth_loss_sweep.data.errors import DataError


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """64 pictures whose depth equals their red channel, so that a mismatch shows."""
    images = torch.rand((64, 3, 8, 8), generator=torch.Generator().manual_seed(1))
    return images, images[:, :1].clone(), images[:, :1] > 0.3


def test_flips_move_everything_together(batch):
    """After flips depth and mask still belong to the picture; about half of the pictures are flipped."""
    for kind, axis in (("flip_h", 3), ("flip_v", 2)):
        images, depth, mask = augment(*batch, (kind,), 0.2, 0.2, seed=3)
        assert torch.equal(images[:, :1], depth) and torch.equal(mask, depth > 0.3)
        flipped = [torch.equal(a, b.flip(axis - 1)) for a, b in zip(images, batch[0], strict=True)]
        kept = [torch.equal(a, b) for a, b in zip(images, batch[0], strict=True)]
        assert all(a != b for a, b in zip(flipped, kept, strict=True)) and 16 < sum(flipped) < 48


def test_brightness_and_contrast_leave_depth_alone(batch):
    """They change the picture within [0, 1] and by no more than asked."""
    dim = (batch[0] * 0.5 + 0.2, *batch[1:])
    bright, depth, mask = augment(*dim, ("brightness",), 0.2, 0.2, seed=3)
    assert torch.equal(depth, batch[1]) and torch.equal(mask, batch[2])
    ratio = (bright / dim[0]).amax((1, 2, 3))
    assert 0.8 <= ratio.min() < 0.9 and 1.1 < ratio.max() <= 1.2001
    contrast = augment(*dim, ("contrast",), 0.2, 0.2, seed=3)[0]
    spread = contrast.std((1, 2, 3)) / dim[0].std((1, 2, 3))
    assert 0.79 < spread.min() < 0.9 and 1.1 < spread.max() < 1.21
    extreme = augment(*batch, KINDS, 0.9, 0.9, seed=3)[0]
    assert extreme.min() >= 0 and extreme.max() <= 1


def test_the_seed_alone_decides(batch):
    """The same seed gives the same batch whatever the global random state; another seed another."""
    first = augment(*batch, KINDS, 0.2, 0.2, seed=5)
    torch.manual_seed(99)
    again = augment(*batch, KINDS, 0.2, 0.2, seed=5)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], augment(*batch, KINDS, 0.2, 0.2, seed=6)[0])


def test_kinds_do_not_disturb_each_other(batch):
    """Adding brightness doesn't change which pictures are flipped."""
    alone = augment(*batch, ("flip_h",), 0.2, 0.2, seed=5)[1]
    assert torch.equal(alone, augment(*batch, ("flip_h", "brightness"), 0.2, 0.2, seed=5)[1])


def test_nothing_asked_nothing_done(batch):
    """Without kinds the batch comes back as it is, and an unknown kind is refused."""
    assert all(a is b for a, b in zip(augment(*batch, (), 0.2, 0.2, seed=0), batch, strict=True))
    with pytest.raises(DataError, match="unknown augmentation 'rotate'"):
        augment(*batch, ("rotate",), 0.2, 0.2, seed=0)


def test_a_copy_is_changed_for_good_and_an_original_is_not(batch):
    """A copy is what `augment` makes of its draws, in whatever batch it comes; an original keeps every bit."""
    draws, is_copy = draw_changes(64, seed=5), torch.arange(64) % 2 == 0
    found = augment_copies(*batch, KINDS, 0.2, 0.2, draws, is_copy)
    for mixed, changed, plain in zip(found, augment(*batch, KINDS, 0.2, 0.2, seed=5), batch, strict=True):
        assert torch.equal(mixed[is_copy], changed[is_copy]) and torch.equal(mixed[~is_copy], plain[~is_copy])
    turned = torch.arange(63, -1, -1)
    again = augment_copies(*(x[turned] for x in batch), KINDS, 0.2, 0.2, draws[:, turned], is_copy[turned])
    assert all(torch.equal(a, b[turned]) for a, b in zip(again, found, strict=True))
