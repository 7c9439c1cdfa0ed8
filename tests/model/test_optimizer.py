"""Adam on torch's fused kernel: the numbers of torch.optim, from a state that fits into a checkpoint."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from depth_loss_sweep.model.optimizer import Adam
from depth_loss_sweep.model.settings import TrainSettings

ROOT = Path(__file__).resolve().parents[2]


def make_net():
    """A small network, channels last."""
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Conv2d(4, 1, 3))
    return net.to(memory_format=torch.channels_last)


def backward(net, seed):
    """Leave the gradients of a random batch."""
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(seed))
    net(images.contiguous(memory_format=torch.channels_last)).square().mean().backward()


@pytest.mark.parametrize(
    ("settings", "kind"),
    [
        ({}, torch.optim.Adam),
        ({"weight_decay": 0.1, "beta1": 0.8, "beta2": 0.99}, torch.optim.Adam),
        ({"optimizer": "adamw", "weight_decay": 0.1}, torch.optim.AdamW),
    ],
)
def test_the_numbers_are_those_of_torch_optim(settings, kind):
    """Bit for bit, also from a saved state on."""
    train = TrainSettings(**settings)
    ours, theirs = make_net(), make_net()
    mine = Adam(ours.parameters(), train)
    options = {"betas": (train.beta1, train.beta2), "weight_decay": train.weight_decay, "fused": True}
    reference = kind(theirs.parameters(), **options)
    for step, rate in enumerate((1e-2, 1e-2, 3e-3, 1e-3)):
        if step == 2:
            again = Adam(ours.parameters(), train)
            again.load_state_dict({place: tensor.clone() for place, tensor in mine.state_dict().items()})
            mine = again
        for net in (ours, theirs):
            net.zero_grad()
            backward(net, step)
        reference.param_groups[0]["lr"] = rate
        mine.step(rate)
        reference.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_state_that_lacks_a_tensor_is_refused():
    """Nothing is taken up by halves in silence."""
    with pytest.raises(KeyError):
        Adam(make_net().parameters(), TrainSettings()).load_state_dict({})


def test_training_does_not_import_the_compiler():
    """torch._dynamo takes seconds to import, and a run that compiles nothing has no use for it."""
    code = (
        "import sys, torch; from depth_loss_sweep.model.optimizer import Adam; from depth_loss_sweep.model.settings import TrainSettings\n"
        "net = torch.nn.Linear(2, 1); adam = Adam(net.parameters(), TrainSettings())\n"
        "net(torch.ones(1, 2)).sum().backward(); adam.step(0.1); adam.zero_grad()\n"
        "sys.exit('torch._dynamo' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
