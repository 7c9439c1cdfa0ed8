"""What a run is made of, as frozen, strictly checked settings: the `[model]`, `[train]` and `[loss]` sections of a spec."""

import re
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, ValidationError, ValidationInfo, create_model, field_validator, model_validator

from depth_loss_sweep.data.settings import Option, Settings, own_options
from depth_loss_sweep.model.names import (
    ALL_TERMS,
    FURTHER_METRICS,
    NETWORKS,
    NO_UNIT,
    OWN_NETWORK,
    WEIGHTINGS,
    Term,
    network_entry,
    terms_with,
)
from depth_loss_sweep.registry import nearest, options_of
from depth_loss_sweep.usercode import Reference

HeadKind = Literal["linear", "softplus", "log_sigmoid", "none"]
SILogForm = Literal["plain", "rooted"]
EdgeForm = Literal["gradient", "smoothness"]
Augmentation = Literal["flip_h", "flip_v", "brightness", "contrast"]
Keep = Literal["last", "none"]

FILE_FORM = "FILE.py:NAME, relative to the spec's folder"
FILE, DIGEST = "file:", "sha256:"
"""What weights to begin with are known by: where a file lies, or what is in it."""


class _Own(Settings):
    """What terms and metrics of the user's own have in common."""

    function: str = Field(description="FILE.py:NAME, or package.module:NAME")
    unit: str = Field(NO_UNIT, max_length=40, description="of its values")
    label: str = Field("", max_length=80, description="in figures and tables; by default its name")
    options: dict[str, Option] = own_options("the function")

    @field_validator("function")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        if Reference.parse(value) is None:
            raise ValueError(f"expected {FILE_FORM}, or package.module:NAME of an installed package")
        return value


class OwnTerm(_Own):
    """A term of the user's own: `function(pred, target, mask, image, **options) -> (B,)`, see `model.own`.

    Or a built-in one by another name, whose options are keys of `[loss]` that count for it alone.
    """

    function: str = Field(description="FILE.py:NAME, package.module:NAME, or the name of a built-in term")

    @property
    def built_in(self) -> Term | None:
        """The registry's line of the built-in term that it is; None of the user's own code."""
        return ALL_TERMS.get(self.function)

    @field_validator("function")
    @classmethod
    def _is_reference(cls, value: str) -> str:
        if value not in ALL_TERMS and Reference.parse(value) is None:
            raise ValueError(
                f"expected {FILE_FORM}, package.module:NAME of an installed package, or a built-in term"
                f"{nearest(value, ALL_TERMS) or ', such as berhu'}"
            )
        return value

    @field_validator("options")
    @classmethod
    def _of_built_in(cls, value: dict[str, Option], info: ValidationInfo) -> dict[str, Option]:
        name = info.data.get("function", "")
        if name not in ALL_TERMS or not value:
            return value
        known = ALL_TERMS[name].keys
        for key in value:
            if key not in known:
                has = f"it has {', '.join(known)}" if known else "it has none"
                raise ValueError(f"the built-in term {name!r} has no option {key!r}{nearest(key, known)}; {has}")
        try:
            found = LossSettings.model_validate(value)
        except ValidationError as error:
            fault = error.errors(include_url=False)[0]
            message = fault["msg"].removeprefix("Value error, ")
            raise ValueError(f"{fault['loc'][0]}: {message[0].lower()}{message[1:]}") from error
        return {key: getattr(found, key) for key in value}


class OwnMetric(_Own):
    """A metric of the user's own: `function(pred, target, mask, **options) -> (B,)`."""

    better: Literal["lower", "higher"] = Field("lower", description="which way is better")


class _ModelSettings(Settings):
    """The network (see `model.network`)."""

    network: str = Field(
        "unet",
        description="unet: the paper's; timm:NAME: an encoder of timm, and a decoder; smp:NAME: one of segmentation-models-pytorch; "
        "FILE.py:NAME or package.module:NAME: one of your own",
    )
    width: int = Field(64, ge=1, le=1024, description="unet: channels of the first block; the bottleneck has 8 x width")
    batch_norm: bool = Field(False, description="unet: batch norm after every convolution of the blocks")
    head: HeadKind = Field(
        "log_sigmoid",
        description="what makes metres of the last channel; log_sigmoid stays within the depth range; none: it is metres, "
        "and where it starts is the network's affair",
    )
    pretrained: bool | str = Field(
        False,
        description="what the network begins with: false: random weights; true: published ones of its encoder, fetched once; "
        '"file:PATH": those of a safetensors file',
    )
    freeze: tuple[str, ...] = Field(
        (), description='parameters that stay as they begin, by how their names begin, such as ["encoder"]'
    )
    learning_rate_scale: dict[str, Annotated[float, Field(gt=0, strict=True, allow_inf_nan=False)]] = Field(
        {}, description="factors of the learning rate by how parameters' names begin, such as { encoder = 0.1 }"
    )
    decoder_channels: tuple[Annotated[int, Field(ge=1, le=4096)], ...] = Field(
        (),
        description="timm, smp: channels of the decoder's blocks, from the deepest one; by default 256, 128, ..., 16",
    )
    options: dict[str, Any] = Field(
        {}, description="timm, smp: what else the network's builder is told, such as { drop_path_rate = 0.1 }"
    )

    @field_validator("network")
    @classmethod
    def _known_network(cls, value: str) -> str:
        network_entry(value)
        return value

    @field_validator("pretrained")
    @classmethod
    def _known_origin(cls, value: bool | str) -> bool | str:
        if isinstance(value, str) and not re.fullmatch(f"{FILE}.+|{DIGEST}[0-9a-f]{{64}}", value):
            raise ValueError('expected true, false, or "file:PATH" of a safetensors file')
        return value

    @field_validator("options")
    @classmethod
    def _plain_options(cls, value: dict[str, Any]) -> dict[str, Any]:
        for key, option in value.items():
            parts = option if isinstance(option, list | tuple) else [option]
            if not all(isinstance(part, bool | int | float | str) for part in parts):
                raise ValueError(f"{key} is {option!r}: expected a number, a text, true or false, or a list of them")
        return value

    @model_validator(mode="after")
    def _options_of_this(self) -> "_ModelSettings":
        if self.options and "options" not in network_entry(self.network).own_keys:
            raise ValueError(
                f"network {self.network!r} takes no options, and {', '.join(self.options)} is set: remove it"
            )
        return self

    @property
    def is_own(self) -> bool:
        """Whether the network is the user's."""
        return network_entry(self.network) is OWN_NETWORK


class TrainSettings(Settings):
    """How a run is trained (see `model.training`)."""

    epochs: int = Field(10, ge=1, le=1_000_000, description="how often every training image is seen")
    batch_size: int = Field(24, ge=1, le=1_000_000, description="images a step")
    learning_rate: float = Field(2e-4, gt=0, allow_inf_nan=False, description="of the first step")
    schedule: Literal["constant", "cosine"] = Field(
        "cosine", description="the rate over the steps: constant, or falling to 0 along half a cosine"
    )
    optimizer: Literal["adam", "adamw"] = Field("adam", description="adamw decays weights apart from the gradient")
    beta1: float = Field(0.9, ge=0, lt=1, description="Adam's memory of the gradient")
    beta2: float = Field(0.999, ge=0, lt=1, description="Adam's memory of its square")
    weight_decay: float = Field(
        0.0, ge=0, allow_inf_nan=False, description="of the network's weights, as the optimizer has it"
    )
    clip_norm: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="clip of the gradient's norm, an absolute one"
    )
    augment: tuple[Augmentation, ...] = Field(
        (), description="random changes of the training images; each flip comes with probability 0.5"
    )
    augment_copies: int = Field(
        0,
        ge=0,
        le=100,
        description="augment: 0 changes each image anew at each step; more enlarge the training set by so many copies of each image, "
        "each changed once, and an epoch, as long as before, takes the next part of the whole",
    )
    brightness: float = Field(0.2, ge=0, lt=1, description="augment: the factor is drawn from 1 - this to 1 + this")
    contrast: float = Field(0.2, ge=0, lt=1, description="augment: the factor is drawn from 1 - this to 1 + this")
    threads: int = Field(
        1, ge=1, le=1024, description="CPU threads of one worker; it changes bits, so it is never derived from cores"
    )
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="arithmetic of the network; auto: bf16 where there is hardware for it (and, on a CPU, the network is large enough "
        "to gain by it), chosen once, where the study is started",
    )
    deterministic: bool = Field(True, description="the same numbers to the last bit whenever a run is repeated")
    eval_images: int = Field(
        64, ge=1, le=1_000_000, description="training images re-evaluated in eval mode after each epoch"
    )
    keep: Keep = Field(
        "last", description="the checkpoints of a finished run that stay: the last one, or none; changes no result"
    )

    @property
    def minds_scale(self) -> bool:
        """Whether proportional weights of the terms train otherwise: by an absolute clip, or decay coupled to the gradient."""
        return self.clip_norm is not None or (self.optimizer == "adam" and self.weight_decay > 0)

    @field_validator("augment")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("an augmentation is named twice")
        return tuple(sorted(value))

    @field_validator("augment_copies")
    @classmethod
    def _changed_copies(cls, value: int, info: ValidationInfo) -> int:
        if value and info.data.get("augment") == ():
            raise ValueError("copies are changed by train.augment, which names nothing: name some, or set this to 0")
        return value


class _LossSettings(Settings):
    """How the terms are computed (see `model.losses`); their weights are given apart."""

    weighting: str = Field("fixed", description="how the weights go over a training")
    edge: EdgeForm = Field(
        "gradient",
        description="the edge term: matched depth gradients (Eq. 9), or smoothness that looks at the image (Eq. 4)",
    )
    silog_alpha: float = Field(0.85, ge=0, le=1, description="how much of a common scale error SILog forgives")
    silog_form: SILogForm = Field(
        "plain", description="as in the paper, or 10 times its root, as depth toolboxes have it"
    )
    ssim_data_range: float | None = Field(
        None,
        gt=0,
        allow_inf_nan=False,
        description="the depths, in metres, that SSIM's constants refer to; where it is not set: d_max",
    )
    own: dict[str, OwnTerm] = Field({}, description="[terms]", exclude_if=lambda value: not value)

    def built_in(self, term: str) -> str | None:
        """The built-in term that a term is, perhaps by another name; None of the user's own code."""
        function = self.own[term].function if term in self.own else term
        return function if function in ALL_TERMS else None

    def as_seen_by(self, term: str) -> "LossSettings":
        """The settings that a built-in term goes by: where it has another name, with the options given there."""
        options = self.own[term].options if term in self.own else {}
        return self.model_copy(update=options) if options else self


if TYPE_CHECKING:
    ModelSettings = _ModelSettings
    LossSettings = _LossSettings
else:
    # With the names that the registries know for choices, and what their entries have as options.
    ModelSettings = create_model(
        "ModelSettings",
        __base__=_ModelSettings,
        __doc__=_ModelSettings.__doc__,
        **options_of(NETWORKS),
    )
    LossSettings = create_model(
        "LossSettings",
        __base__=_LossSettings,
        __doc__=_LossSettings.__doc__,
        weighting=(Literal[tuple(WEIGHTINGS)], _LossSettings.model_fields["weighting"]),
        **options_of(ALL_TERMS, WEIGHTINGS),
    )


class RunSettings(Settings):
    """All that determines one run apart from data and machine."""

    model: ModelSettings
    train: TrainSettings
    loss: LossSettings
    weights: dict[str, float]
    """Of `TERMS` and of the further terms that were named: those that the run computes."""
    metrics: tuple[str, ...] = ()
    """The `FURTHER_METRICS` that it is judged by."""
    own_metrics: dict[str, OwnMetric] = Field({}, exclude_if=lambda value: not value)
    """Those of the user's own."""
    seed: int = Field(ge=0)
    depth_range: tuple[float, float] = (0.1, 10.0)

    @property
    def ssim_data_range(self) -> float:
        """SSIM's data range in metres: as set, else the far end of the depth range."""
        return self.loss.ssim_data_range or self.depth_range[1]

    @property
    def code(self) -> tuple[str, ...]:
        """The references to the user's own code that it runs."""
        terms = [term.function for term in self.loss.own.values() if term.built_in is None]
        metrics = [metric.function for metric in self.own_metrics.values()]
        return tuple(dict.fromkeys([self.model.network] * self.model.is_own + terms + metrics))

    @property
    def judged_by(self) -> tuple[str, ...]:
        """The metrics that it is judged by beside the usual ones."""
        return tuple(dict.fromkeys([*self.metrics, *self.own_metrics]))

    @field_validator("weights")
    @classmethod
    def _usable_weights(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        own = info.data["loss"].own if "loss" in info.data else {}
        for term, weight in value.items():
            if term not in ALL_TERMS and term not in own:
                raise ValueError(f"unknown term {term!r}; the terms are {', '.join([*ALL_TERMS, *own])}")
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {term} is {weight}; weights are finite and not negative")
        if not sum(value.values()) > 0:
            raise ValueError("the weights sum to nothing; at least one must be positive")
        return {term: float(value.get(term, 0.0)) for term in terms_with([*value, *own])}

    @field_validator("metrics")
    @classmethod
    def _known_metrics(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for metric in value:
            if metric not in FURTHER_METRICS:
                raise ValueError(f"unknown metric {metric!r}; the further metrics are {', '.join(FURTHER_METRICS)}")
        return tuple(metric for metric in FURTHER_METRICS if metric in value)
