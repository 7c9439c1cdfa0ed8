"""The network: its shapes, heads, start and errors."""

import pytest
import torch

from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.settings import ModelSettings

torch.set_num_threads(1)

DEPTH_RANGE = (0.1, 10.0)
HEADS = ("linear", "softplus", "log_sigmoid")


def make_net(head="log_sigmoid", width=4, batch_norm=False, seed=0):
    """A small network with reproducible weights."""
    torch.manual_seed(seed)
    return DepthNetwork(ModelSettings(width=width, head=head, batch_norm=batch_norm), DEPTH_RANGE)


@pytest.mark.parametrize("size", [(8, 8), (16, 40), (64, 64)])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_depth_has_the_size_of_the_image(size, batch_norm):
    """Any size divisible by 8 gives a depth map of that size, in float32."""
    depth = make_net(batch_norm=batch_norm)(torch.rand(2, 3, *size))
    assert depth.shape == (2, 1, *size)
    assert depth.dtype == torch.float32


@pytest.mark.parametrize("size", [(60, 64), (64, 60), (4, 8)])
def test_other_sizes_are_refused(size):
    """The error names the size and what to do."""
    with pytest.raises(ModelError, match=f"{size[0]}x{size[1]}; expected sides divisible by 8: resize or pad"):
        make_net()(torch.rand(1, 3, *size))


@pytest.mark.parametrize("head", HEADS)
def test_an_untrained_network_predicts_the_median(head):
    """After start_at the prediction starts within a fifth of the training median, everywhere."""
    net = make_net(head, width=16)
    net.start_at(2.5)
    with torch.no_grad():
        depth = net(torch.rand(4, 3, 64, 64))
    assert depth.mean().item() == pytest.approx(2.5, rel=0.2)
    assert depth.std().item() < 0.5


@pytest.mark.parametrize("head", HEADS)
def test_the_head_inverts_the_median_exactly(head):
    """Where the features are silent, the prediction is the median itself."""
    net = make_net(head)
    torch.nn.init.zeros_(net.body.head.weight)
    net.start_at(3.7)
    with torch.no_grad():
        assert net(torch.rand(1, 3, 16, 16)).mean().item() == pytest.approx(3.7, rel=1e-5)


@pytest.mark.parametrize("median", [0.05, 11.0, float("nan")])
def test_a_median_outside_the_depth_range_is_refused(median):
    """The error says which range was expected."""
    with pytest.raises(ModelError, match=r"expected it within \[0.1, 10.0\] m"):
        make_net().start_at(median)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_log_sigmoid_head_stays_in_the_depth_range(sign):
    """However extreme the features are, depth stays within [d_min, d_max] and finite."""
    net = make_net()
    torch.nn.init.constant_(net.body.head.bias, sign * 1e4)
    with torch.no_grad():
        depth = net(torch.rand(1, 3, 16, 16))
    assert depth.min() >= 0.1 * (1 - 1e-5)
    assert depth.max() <= 10.0 * (1 + 1e-5)


def test_the_paper_size_network_has_the_paper_channels():
    """Width 64 gives blocks of 64, 128 and 256 channels and a bottleneck of 512."""
    with torch.device("meta"):
        net = DepthNetwork(ModelSettings(width=64), DEPTH_RANGE)
    assert [block[0].out_channels for block in net.body.encoder] == [64, 128, 256, 512]
    assert [block[0].out_channels for block in net.body.decoder] == [256, 128, 64]
    assert net.body.head.kernel_size == (1, 1)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_gets_a_gradient(head, batch_norm):
    """One backward pass reaches all of the network."""
    net = make_net(head, batch_norm=batch_norm)
    net.start_at(2.0)
    net(torch.rand(2, 3, 16, 16)).square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().sum() > 0, name


def test_memory_format_changes_the_prediction_by_rounding_only():
    """channels_last gives the same depth."""
    net = make_net()
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        plain = net(images)
        fast = net.to(memory_format=torch.channels_last)(images.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(plain, fast, rtol=1e-4)


def test_depth_is_float32_under_autocast():
    """Half precision inside, full precision at the head: neighbouring depths aren't rounded together."""
    net = make_net()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        depth = net(torch.rand(1, 3, 32, 32))
    assert depth.dtype == torch.float32
    assert len(depth.unique()) > 500


def test_the_same_seed_builds_the_same_network():
    """Weights come from torch's random state and nothing else."""
    first, second = make_net(seed=3).arrays(), make_net(seed=3).arrays()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_empty_depth_range_is_refused():
    """The range must have d_min below d_max."""
    with pytest.raises(ModelError, match="expected 0 < d_min < d_max"):
        DepthNetwork(ModelSettings(width=4), (2.0, 2.0))


def test_a_small_network_can_learn_by_heart():
    """Two images are fitted well below the error of a constant in a few dozen steps."""
    net = make_net(width=8)
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(2, 3, 16, 16, generator=generator)
    target = 1 + 4 * images.mean(dim=1, keepdim=True)
    net.start_at(target.median().item())
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        loss = (net(images) - target).abs().mean()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 * (target - target.median()).abs().mean().item()


@pytest.mark.parametrize("batch_norm", [False, True])
def test_upsampling_is_folded_into_the_convolution(batch_norm):
    """Prediction and gradients are those of upsampling, concatenating and convolving one after the other."""
    net = make_net("linear", batch_norm=batch_norm)
    images = torch.rand(2, 3, 16, 24)

    def plainly():
        skips, x = [], images * 2 - 1
        for block in net.body.encoder:
            x = block(torch.nn.functional.max_pool2d(x, 2) if skips else x)
            skips.append(x)
        for block, skip in zip(net.body.decoder, skips[-2::-1], strict=True):
            x = torch.cat((torch.nn.functional.interpolate(x, scale_factor=2, mode="nearest"), skip), dim=1)
            first, *rest = block
            x = torch.nn.Conv2d.forward(first, x)
            for layer in rest:
                x = layer(x)
        return net.body.head(x)

    folded, plain = (
        [depth, *torch.autograd.grad(depth.square().mean(), list(net.parameters()))]
        for depth in (net(images), plainly())
    )
    for one, other in zip(folded, plain, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5 * other.abs().max().item())
