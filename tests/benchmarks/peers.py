"""Ours beside what one would use instead: MONAI, segmentation-models-pytorch, Lightning, kornia, torchmetrics.

It runs in an environment of its own (peers-requirements.txt says how to make it), from the repository's root:

    .venv-peers/bin/python -m tests.benchmarks.peers [--size 64] [--batch 24] [--images 288]
        [--data pairs:PATH] [--rounds 20] [--epochs 2] [--passes 2] [--only step,epoch,loss]
        [--threads 1] [--loaders 0]

and prints one JSON object. As many CPU cores as threads, float32. What is compared takes turns, so that a noisy machine hits all
alike; ours has a process of its own, since it changes how the C library keeps memory. Where there was a choice, it favours
the peers.
"""

import argparse
import contextlib
import copy
import itertools
import json
import logging
import math
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset
from torch.utils.flop_counter import FlopCounterMode

from depth_loss_sweep.data.prepare import Prepared, prepare
from depth_loss_sweep.data.rooms.source import RoomsSource
from depth_loss_sweep.data.settings import DataSettings
from depth_loss_sweep.model.backend import this_machine
from depth_loss_sweep.model.evaluation import combined_loss
from depth_loss_sweep.model.network import DepthNetwork
from depth_loss_sweep.model.runtime import Runtime, environment_key, resolve_runtime
from depth_loss_sweep.model.settings import LossSettings, ModelSettings, RunSettings, TrainSettings
from depth_loss_sweep.model.training import Training, train
from tests.benchmarks.machine import Aside

WIDTH = 16
LOW, HIGH = 0.1, 10.0
WEIGHTS = {"silog": 0.45, "ssim": 0.45, "edge": 0.05, "l1": 0.05}
RATE = 2e-4
CAMERAS = ((1024, 768),)  # DIODE's
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
PACKAGES = ("torch", "monai", "segmentation-models-pytorch", "timm", "lightning", "kornia", "torchmetrics")
NOTES = {
    "ratio": "ours over the peer's speed: above 1 ours is faster",
    "step": "all networks learn by our CombinedLoss from pictures in memory, so that only network and loop differ: ours "
    "steps as model.training does, peers in a plain loop with torch.optim.Adam, in their faster memory format",
    "gflop": "a forward and backward pass of the network by FlopCounterMode; executed: what is computed, the honest "
    "number; nominal: the decoder's convolutions over cat(upsample(below), skip), as the formula stands",
    "epoch": "images_per_s: of the epochs after the first; run_images_per_s: of whole runs, set-up and result included. An "
    "epoch trains, validates, writes a checkpoint and a record; ours also evaluates 64 training images, and by more "
    "metrics. ours_cached reads the pictures from the cache that a study builds once, ours_first_run builds it; peers "
    "decode them each epoch, and learn by the plain loss with the faster SSIM. lightning has our network and our loss; "
    "lightning_plain has the same network as one writes it (upsample, concatenate, convolve), and the plain loss",
    "loss": "four terms, forward and backward; the peers' SSIM sees holes filled with the truth, which costs least",
}

Loss = Callable[..., tuple[Tensor, dict[str, Tensor]]]
Numbers = dict[str, Any]


class Times(NamedTuple):
    """Wall seconds of one training run: each epoch after the first, and all of it."""

    epochs: list[float]
    total: float


# ---- networks ---------------------------------------------------------------------------------------------------


def declare_torchvision_operators() -> torch.library.Library:
    """Make torchvision, which timm and torchmetrics import, importable beside a CPU torch; to be kept alive."""
    # Its wheel is built for CUDA; without the compiled part its import asks for the schemas of these two.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


def monai_basic_unet() -> nn.Module:
    """MONAI's U-Net at half its default widths: one pooling more than ours, instance norm."""
    from monai.networks.nets import BasicUNet

    features = [WIDTH * factor for factor in (1, 1, 2, 4, 8, 1)]
    return BasicUNet(spatial_dims=2, in_channels=3, out_channels=1, features=features)


def smp_unet() -> nn.Module:
    """smp's U-Net on a narrowed ResNet-18 of four stages: near ours in executed arithmetic, too; batch norm."""
    from segmentation_models_pytorch import Unet

    encoder, decoder = [[WIDTH * factor for factor in factors] for factors in ((2, 2, 4, 4), (4, 4, 2, 1))]
    return Unet("tu-resnet18", encoder_depth=4, encoder_weights=None, decoder_channels=decoder, channels=encoder)


PEERS = {"monai_basic_unet": monai_basic_unet, "smp_unet": smp_unet}


class InLayout(nn.Module):
    """A network in a memory format, pictures included."""

    def __init__(self, network: nn.Module, layout: str) -> None:
        super().__init__()
        self.network, self.layout = network.to(memory_format=LAYOUTS[layout]), LAYOUTS[layout]

    def forward(self, images: Tensor) -> Tensor:
        """Depth (B, 1, H, W) from images (B, 3, H, W)."""
        return self.network(images.contiguous(memory_format=self.layout))


def count_gflop(network: nn.Module, batch: int, size: int) -> float:
    """Arithmetic of one forward and backward pass, in 10⁹ operations."""
    with FlopCounterMode(display=False) as counter:
        network(torch.rand(batch, 3, size, size)).mean().backward()
    return counter.get_total_flops() / 1e9


def in_plain_form(network: DepthNetwork) -> DepthNetwork:
    """Ours with its folded convolutions computed as the formula stands, checked to be the same map."""
    network, plain = copy.deepcopy(network).eval(), copy.deepcopy(network).eval()
    for block in plain.body.decoder:
        block[0].forward = partial(_convolve_upsampled, block[0])
    images = torch.rand(2, 3, 64, 64)
    torch.testing.assert_close(plain(images), network(images), rtol=1e-3, atol=1e-3)
    return plain.train()


def _convolve_upsampled(convolution: nn.Conv2d, below: Tensor, skip: Tensor) -> Tensor:
    x = torch.cat((functional.interpolate(below, scale_factor=2), skip), dim=1)
    return functional.conv2d(x, convolution.weight, convolution.bias, padding=1)


# ---- step -------------------------------------------------------------------------------------------------------


def alternate(actions: Mapping[str, Callable[[], Any]], rounds: int, warm_up: int = 2) -> dict[str, float]:
    """Median milliseconds of each action; all take one turn a round."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(warm_up + rounds):
        for name, action in actions.items():
            start = time.perf_counter()
            action()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[warm_up:]) for name, values in times.items()}


def run_settings(batch: int, epochs: int = 1, batch_norm: bool = False, threads: int = 1) -> RunSettings:
    """A run with the defaults of a spec but for its width."""
    rest = {"loss": LossSettings(), "weights": WEIGHTS, "seed": 0, "depth_range": (LOW, HIGH)}
    train = TrainSettings(batch_size=batch, epochs=epochs, learning_rate=RATE, precision="fp32", threads=threads)
    return RunSettings(model=ModelSettings(width=WIDTH, batch_norm=batch_norm), train=train, **rest)


def our_step(settings: RunSettings, data: DataSettings, cache: Path) -> Callable[[], Any]:
    """The step that users run, private as it is."""
    training = Training(settings, prepare(data, cache), resolve_runtime("cpu", settings.train, this_machine("cpu")))
    training.network.train()
    batch = settings.train.batch_size

    def step() -> None:
        training._step(torch.randperm(len(training.train_part))[:batch], RATE, seed=0)

    return step


def peer_step(network: nn.Module, prepared: Prepared, batch: int) -> Callable[[], Any]:
    """A step of a plain loop on the same pictures, by the same loss."""
    optimizer = torch.optim.Adam(network.train().parameters(), lr=RATE)
    loss, part = combined_loss(run_settings(batch)), prepared.tensors("train")
    images = part.images.contiguous()

    def step() -> float:
        chosen = torch.randperm(len(images))[:batch]
        return descend(network, optimizer, loss, (images[chosen] / 255, part.depth[chosen], part.mask[chosen]))

    return step


def descend(network: nn.Module, optimizer: Any, loss: Loss, batch: tuple[Tensor, Tensor, Tensor]) -> float:
    """Forward, backward and update as one writes them; the loss as a number."""
    images, depth, mask = batch
    total, _ = loss(network(images), depth, mask, images)
    optimizer.zero_grad()
    total.backward()
    optimizer.step()
    return total.item()


def measure_step(prepared: Prepared, cache: Path, args: argparse.Namespace) -> dict[str, Numbers]:
    """Milliseconds and GFLOP/s of a step: ours, with and without batch norm, and each peer's."""
    kinds = {
        name: run_settings(args.batch, batch_norm=batch_norm, threads=args.threads)
        for name, batch_norm in (("ours", False), ("ours_batch_norm", True))
    }
    actions: dict[str, Callable[[], Any]] = {
        name: Aside(our_step, settings, prepared.settings, cache) for name, settings in kinds.items()
    }
    for name, layout in itertools.product(PEERS, LAYOUTS):
        actions[f"{name}/{layout}"] = peer_step(InLayout(PEERS[name](), layout), prepared, args.batch)
    ms, size = alternate(actions, args.rounds), prepared.settings.image_size[0]
    found = {}
    for name, settings in kinds.items():
        network = DepthNetwork(settings.model, settings.depth_range)
        forms = {"executed": network, "nominal": in_plain_form(network)}
        found[name] = _describe(forms, ms[name], args.batch, size)
    for name, build in PEERS.items():
        by_layout = {layout: ms[f"{name}/{layout}"] for layout in LAYOUTS}
        layout = min(by_layout, key=by_layout.__getitem__)
        numbers = _describe({"executed": build()}, by_layout[layout], args.batch, size)
        assert abs(numbers["parameters"] / found["ours"]["parameters"] - 1) <= 0.05, f"{name} is of another size"
        numbers |= {"memory_format": layout, "ms_by_memory_format": by_layout}
        found[name] = numbers | {f"ratio_of_{kind}": _compare(found[kind], numbers) for kind in kinds}
    return found


def _describe(forms: dict[str, nn.Module], ms: float, batch: int, size: int) -> Numbers:
    parameters = sum(parameter.numel() for parameter in forms["executed"].parameters())
    gflop = {form: count_gflop(network, batch, size) for form, network in forms.items()}
    speed = {form: 1e3 * count / ms for form, count in gflop.items()}
    return {"parameters": parameters, "ms": ms, "gflop": gflop, "gflop_per_s": speed}


def _compare(ours: Numbers, peer: Numbers) -> dict[str, float]:
    speed = peer["gflop_per_s"]["executed"]
    ratios = {f"gflop_per_s_{form}": value / speed for form, value in ours["gflop_per_s"].items()}
    return {"time": peer["ms"] / ours["ms"], **ratios}


# ---- loss -------------------------------------------------------------------------------------------------------


def kornia_ssim(pred: Tensor, target: Tensor) -> Tensor:
    """SSIM of each image, (B,), by windows of 11 with σ 1.5."""
    from kornia.metrics import ssim

    return ssim(pred, target, window_size=11, max_val=HIGH, padding="valid").mean(dim=(1, 2, 3))


def torchmetrics_ssim(pred: Tensor, target: Tensor) -> Tensor:
    """SSIM of each image, (B,), by windows of 11 (which follow from σ) with σ 1.5."""
    from torchmetrics.functional.image import structural_similarity_index_measure as ssim

    return ssim(pred, target, sigma=1.5, data_range=HIGH, reduction="none")


def plain_loss(ssim: Callable, pred: Tensor, target: Tensor, mask: Tensor, *_: Any) -> tuple[Tensor, dict[str, Tensor]]:
    """The terms as one writes them around a library's SSIM, and their weighted sum; called as `CombinedLoss` is."""
    error = target - pred
    log_error = (target.clamp_min(1e-3).log() - pred.clamp_min(1e-3).log()) * mask
    along_x = mean_of(error.diff(dim=-1).abs(), mask[..., 1:] & mask[..., :-1])
    along_y = mean_of(error.diff(dim=-2).abs(), mask[..., 1:, :] & mask[..., :-1, :])
    silog = mean_of(log_error.square(), mask) - 0.85 * mean_of(log_error, mask).square()
    unlike = 1 - ssim(torch.where(mask, pred, target), target)
    per_image = {"silog": silog, "ssim": unlike, "edge": along_x + along_y, "l1": mean_of(error.abs(), mask)}
    terms = {name: value.mean() for name, value in per_image.items()}
    return sum(weight * terms[name] for name, weight in WEIGHTS.items()), terms


PLAIN_LOSSES = {"kornia": partial(plain_loss, kornia_ssim), "torchmetrics": partial(plain_loss, torchmetrics_ssim)}


def mean_of(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over each image's valid pixels, (B,)."""
    return (values * mask).sum(dim=(1, 2, 3)) / mask.sum(dim=(1, 2, 3)).clamp_min(1)


def measure_loss(batch: int, size: int, rounds: int) -> Numbers:
    """Milliseconds of forward and backward of our loss and of the plain ones, and the ratios."""
    target = 0.5 + 9 * torch.rand(batch, 1, size, size)
    pred = (target + 0.5 * torch.randn_like(target)).requires_grad_()
    mask = functional.interpolate(torch.rand(batch, 1, size // 8, size // 8), scale_factor=8) < 0.8  # holes of 8x8
    losses: dict[str, Loss] = {"ours": combined_loss(run_settings(batch)), **PLAIN_LOSSES}
    terms = {name: {t: v.item() for t, v in loss(pred, target, mask)[1].items()} for name, loss in losses.items()}
    for term in ("silog", "edge", "l1"):
        values = [found[term] for found in terms.values()]
        assert max(values) <= 1.001 * min(values), f"{term} is not the same term everywhere: {values}"
    ms = alternate({name: partial(_differentiate, loss, pred, target, mask) for name, loss in losses.items()}, rounds)
    ratio = {name: ms[name] / ms["ours"] for name in PLAIN_LOSSES}
    ratio["best_peer"] = min(ratio.values())
    return {"shape": list(target.shape), "ms": ms, "ratio": ratio, "terms": terms}


def _differentiate(loss: Loss, pred: Tensor, target: Tensor, mask: Tensor) -> None:
    pred.grad = None
    loss(pred, target, mask)[0].backward()


# ---- epoch ------------------------------------------------------------------------------------------------------


def export_rooms(folder: Path, images: int) -> Path:
    """Render pictures to train on and a third as many to validate by, 320x240, a room each; as JPEG and 16-bit PNG."""
    parts = ["train"] * images + ["val"] * math.ceil(images / 3)
    source = RoomsSource(DataSettings(image_size=(240, 320), rooms=max(3, len(parts)), views=1))
    for part, item in zip(parts, source.items(), strict=False):
        image, depth = source.load(item)
        path = folder / part / item.key
        path.parent.mkdir(parents=True)
        cv2.imwrite(f"{path}.jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR))
        cv2.imwrite(f"{path}_depth.png", (1000 * depth).round().astype("uint16"))
    return folder


def enlarge(pictures: Path, folder: Path, camera: tuple[int, int]) -> Path:
    """The same as a camera of (width, height) would have written them: PNG, as DIODE's, but smoother and so quicker to decode."""
    for path in pictures.rglob("*.*"):
        target = folder / path.relative_to(pictures).with_suffix(".png")
        target.parent.mkdir(parents=True, exist_ok=True)
        how = cv2.INTER_NEAREST if path.stem.endswith("_depth") else cv2.INTER_CUBIC
        cv2.imwrite(str(target), cv2.resize(cv2.imread(str(path), cv2.IMREAD_UNCHANGED), camera, interpolation=how))
    return folder


class PairFiles(Dataset):
    """Pictures and depth, decoded and resized whenever they are asked for, as training scripts do."""

    def __init__(self, prepared: Prepared, part: str) -> None:
        root = Path(prepared.settings.source.removeprefix("pairs:"))
        pictures = {path.relative_to(root).with_suffix("").as_posix(): path for path in root.rglob("*.*")}
        self.files = [(str(pictures[key]), f"{root / key}_depth.png") for key in prepared.keys(part)]
        self.size = prepared.settings.image_size[::-1]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Image (3, H, W) in [0, 1]; depth (1, H, W) in metres; mask (1, H, W) bool."""
        picture, depth_file = self.files[index]
        image = cv2.resize(cv2.imread(picture), self.size, interpolation=cv2.INTER_AREA)
        depth = cv2.resize(cv2.imread(depth_file, cv2.IMREAD_UNCHANGED), self.size, interpolation=cv2.INTER_NEAREST)
        metres = torch.from_numpy(depth.astype("float32"))[None] / 1000
        colours = torch.from_numpy(cv2.cvtColor(image, cv2.COLOR_BGR2RGB)).permute(2, 0, 1) / 255
        return colours, metres, (metres >= LOW) & (metres <= HIGH)


def validation_numbers(network: nn.Module, loss: Loss, batch: tuple[Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """A batch's terms, rmse, abs_rel and delta1, as scalars."""
    images, depth, mask = batch
    pred = network(images)
    terms = loss(pred, depth, mask, images)[1]
    pred, truth = pred.clamp_min(1e-3), torch.where(mask, depth, 1.0)
    error, off = (pred - truth).abs(), torch.maximum(pred / truth, truth / pred)
    rmse, abs_rel = mean_of(error.square(), mask).sqrt(), mean_of(error / truth, mask)
    return terms | {"rmse": rmse.mean(), "abs_rel": abs_rel.mean(), "delta1": mean_of(off < 1.25, mask).mean()}


def write_record(folder: Path, record: Numbers) -> None:
    """Add an epoch's numbers to a run's file."""
    with (folder / "records.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def our_run(settings: RunSettings, data: DataSettings, cache: Path, folder: Path) -> Times:
    """A run by `model.training.train`, as a worker of a study does it; builds the cache where there is none."""
    start, steps = time.perf_counter(), []

    def note_step() -> bool:
        steps.append(time.perf_counter())
        return False

    runtime = resolve_runtime("cpu", settings.train, this_machine("cpu"))
    for record in train(settings, prepare(data, cache), folder, runtime, note_step):
        write_record(folder, record.as_dict())
    # A record may come while the next epoch is under way; so epochs are told apart by their last steps.
    each = len(steps) // settings.train.epochs
    return _times(steps[each - 1 :: each], start)


def runner() -> Callable[..., Times]:
    """`our_run`, in whatever process this is called."""
    cv2.setNumThreads(1)
    return our_run


def plain_run(build: Callable, layout: str, loss: Loss, loaders: list, epochs: int, folder: Path) -> Times:
    """A run of a plain loop."""
    folder.mkdir(parents=True)
    start, marks = time.perf_counter(), []
    network = InLayout(build(), layout)
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    for _ in range(epochs):
        network.train()
        losses = [descend(network, optimizer, loss, batch) for batch in loaders[0]]
        network.eval()
        with torch.no_grad():
            found = [validation_numbers(network, loss, batch) for batch in loaders[1]]
        means = {name: torch.stack([numbers[name] for numbers in found]).mean().item() for name in found[0]}
        torch.save({"model": network.state_dict(), "optimizer": optimizer.state_dict()}, folder / "checkpoint.pt")
        write_record(folder, {"train": statistics.mean(losses), "val": means})
        marks.append(time.perf_counter())
    return _times(marks, start)


def our_network() -> nn.Module:
    """Ours as it is."""
    return DepthNetwork(ModelSettings(width=WIDTH), (LOW, HIGH))


def our_network_plain() -> nn.Module:
    """The same as one writes it."""
    return in_plain_form(DepthNetwork(ModelSettings(width=WIDTH), (LOW, HIGH)))


def lightning_run(build: Callable, loss: Loss, loaders: list, epochs: int, folder: Path) -> Times:
    """A run of a network in our memory format under Lightning's Trainer."""
    from lightning.pytorch import LightningModule, Trainer

    marks: list[float] = []

    class Module(LightningModule):
        """A depth network as one writes it for Lightning."""

        def __init__(self) -> None:
            super().__init__()
            self.network = InLayout(build(), "channels_last")

        def configure_optimizers(self) -> torch.optim.Optimizer:
            return torch.optim.Adam(self.parameters(), lr=RATE)

        def on_train_epoch_start(self) -> None:
            marks.append(time.perf_counter())  # not when it ends: the checkpoint is written after that

        def training_step(self, batch: list[Tensor], _: int) -> Tensor:
            images, depth, mask = batch
            total, _ = loss(self.network(images), depth, mask, images)
            self.log("train", total, on_step=False, on_epoch=True)
            return total

        def validation_step(self, batch: list[Tensor], _: int) -> None:
            self.log_dict(validation_numbers(self.network, loss, batch))

        def on_train_epoch_end(self) -> None:
            write_record(folder, {name: value.item() for name, value in self.trainer.callback_metrics.items()})

    folder.mkdir(parents=True)
    start = time.perf_counter()
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False, "num_sanity_val_steps": 0}
    where = {"accelerator": "cpu", "devices": 1, "default_root_dir": folder, "enable_checkpointing": True}
    Trainer(max_epochs=epochs, **quiet, **where).fit(Module(), *loaders)
    return _times([*marks[1:], time.perf_counter()], start)


def _times(epoch_ends: list[float], start: float) -> Times:
    epochs = [end - begin for begin, end in itertools.pairwise(epoch_ends)]
    return Times(epochs, time.perf_counter() - start)


def measure_epoch(
    prepared: Prepared, cache: Path, layouts: dict[str, str], args: argparse.Namespace, folder: Path
) -> Numbers:
    """Images a second of each way to train; all take one turn, a whole run, a pass."""
    settings = run_settings(args.batch, args.epochs, threads=args.threads)
    ms = measure_loss(args.batch, args.size, rounds=5)["ms"]
    ssim = min(PLAIN_LOSSES, key=ms.__getitem__)
    files = [PairFiles(prepared, part) for part in ("train", "val")]
    more = {"num_workers": args.loaders, "persistent_workers": args.loaders > 0}
    loaders = [DataLoader(part, args.batch, shuffle=part is files[0], **more) for part in files]
    ours = Aside(runner)
    runs: dict[str, Callable[[Path], Times]] = {
        "ours_cached": lambda folder: ours(settings, prepared.settings, cache, folder),
        "ours_first_run": lambda folder: ours(settings, prepared.settings, folder / "cache", folder / "run"),
        "lightning": partial(lightning_run, our_network, combined_loss(settings), loaders, args.epochs),
        "lightning_plain": partial(lightning_run, our_network_plain, PLAIN_LOSSES[ssim], loaders, args.epochs),
    }
    for name, build in PEERS.items():
        runs[name] = partial(plain_run, build, layouts[name], PLAIN_LOSSES[ssim], loaders, args.epochs)
    times: dict[str, list[Times]] = {name: [] for name in runs}
    for number, (name, run) in itertools.product(range(args.passes), runs.items()):
        times[name].append(run(folder / name / str(number)))
    found = {name: _speeds(values, len(files[0]), args.epochs) for name, values in times.items()}
    for name, kind in (("cached", "images_per_s"), ("cached", "run_images_per_s"), ("first_run", "run_images_per_s")):
        found[f"ours_{name}"][f"ratio_{kind}"] = _ratios(found, f"ours_{name}", kind)
    return {"images": [len(part) for part in files], "ssim": ssim, **found}


def _speeds(times: list[Times], images: int, epochs: int) -> Numbers:
    counted, total = [seconds for run in times for seconds in run.epochs], sum(run.total for run in times)
    speeds = {
        "images_per_s": images * len(counted) / sum(counted),
        "run_images_per_s": images * epochs * len(times) / total,
    }
    return speeds | {"epoch_s": counted, "run_s": [run.total for run in times]}


def _ratios(found: dict[str, Numbers], ours: str, kind: str) -> dict[str, float]:
    ratios = {peer: found[ours][kind] / found[peer][kind] for peer in found if not peer.startswith("ours")}
    return ratios | {"best_peer": min(ratios.values())}


# ---- all of it --------------------------------------------------------------------------------------------------


def measure(args: argparse.Namespace, folder: Path) -> Numbers:
    """Everything that was asked for, as one JSON-able object."""
    machine = environment_key(Runtime("cpu"), TrainSettings(), this_machine("cpu"))
    about = {"arguments": vars(args), "machine": machine, "load": os.getloadavg()}
    result: Numbers = {"about": about | {"versions": {name: version(name) for name in PACKAGES}}}
    result |= {"notes": NOTES, "unavailable": {}}
    if "loss" in args.only:
        result["loss"] = [measure_loss(args.batch, size, args.rounds) for size in (64, 256)]
    if {"step", "epoch"} & set(args.only):  # the epoch needs to know which memory format is the faster
        files = Path(args.data.removeprefix("pairs:")) if args.data else export_rooms(folder / "rooms", args.images)
        prepared = prepare(data_settings(files, args), folder / "cache")
        result["step"] = measure_step(prepared, folder / "cache", args)
    if "epoch" in args.only:
        layouts = {name: result["step"][name]["memory_format"] for name in PEERS}
        result["epoch, pictures as given" if args.data else "epoch, 320x240 JPEG"] = measure_epoch(
            prepared, folder / "cache", layouts, args, folder / "runs"
        )
        for width, height in () if args.data else CAMERAS:
            larger = enlarge(files, folder / f"{width}", (width, height))
            prepared = prepare(data_settings(larger, args), folder / "cache")
            result[f"epoch, {width}x{height} PNG"] = measure_epoch(
                prepared, folder / "cache", layouts, args, folder / f"runs{width}"
            )
    return result


def data_settings(files: Path, args: argparse.Namespace) -> DataSettings:
    """The [data] section for pictures in a folder."""
    counts = {"train_images": args.images, "val_images": math.ceil(args.images / 3)}
    return DataSettings(source=f"pairs:{files}", image_size=args.size, **counts)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.peers", description=__doc__.partition("\n")[0])
    counts = {
        "size": 64,
        "batch": 24,
        "images": 288,
        "rounds": 20,
        "epochs": 2,
        "passes": 2,
        "threads": 1,
        "loaders": 0,
    }
    for name, default in counts.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--data", help="pairs:PATH in place of rendered rooms")
    parser.add_argument("--only", type=lambda text: text.split(","), default=["step", "epoch", "loss"])
    args = parser.parse_args()
    if not set(args.only) <= {"step", "epoch", "loss"} or args.images < args.batch or args.epochs < 2 or args.size % 16:
        parser.error(
            "--only knows step, epoch, loss; --images is a batch at least, --epochs 2, --size a multiple of 16"
        )
    return args


def main() -> None:
    """Measure in silence, then print the result."""
    args, _library = parse(), declare_torchvision_operators()
    torch.set_num_threads(args.threads)
    cv2.setNumThreads(1)
    # Ours writes checkpoints beside its training: on these cores, too.
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[-args.threads :])
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        result = measure(args, Path(folder))
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
