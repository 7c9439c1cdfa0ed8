"""What a run is made of, as frozen, strictly checked settings: the `[model]`, `[train]` and `[loss]` sections of a spec."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from model.names import TERMS

Augmentation = Literal["flip_h", "flip_v", "brightness", "contrast"]


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys, no silent conversions from text."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class ModelSettings(Settings):
    """The U-Net (see `model.unet`)."""

    width: int = Field(64, ge=1, le=1024, description="channels of the first block; the bottleneck has 8 x width")
    batch_norm: bool = False
    head: Literal["linear", "softplus", "log_sigmoid"] = "log_sigmoid"


class TrainSettings(Settings):
    """How a run is trained (see `model.training`)."""

    epochs: int = Field(10, ge=1, le=1_000_000)
    batch_size: int = Field(24, ge=1, le=1_000_000)
    learning_rate: float = Field(2e-4, gt=0, allow_inf_nan=False)
    schedule: Literal["constant", "cosine"] = "cosine"
    optimizer: Literal["adam", "adamw"] = "adam"
    beta1: float = Field(0.9, ge=0, lt=1)
    beta2: float = Field(0.999, ge=0, lt=1)
    weight_decay: float = Field(0.0, ge=0, allow_inf_nan=False)
    clip_norm: float | None = Field(
        None, gt=0, allow_inf_nan=False, description="absolute gradient-norm clip; none by default"
    )
    augment: tuple[Augmentation, ...] = ()
    brightness: float = Field(0.2, ge=0, lt=1)
    contrast: float = Field(0.2, ge=0, lt=1)
    threads: int = Field(
        1, ge=1, le=1024, description="CPU threads of one worker; it changes bits, so it is never derived from cores"
    )
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    deterministic: bool = True
    eval_images: int = Field(
        64, ge=1, le=1_000_000, description="training images re-evaluated in eval mode after each epoch"
    )

    @field_validator("augment")
    @classmethod
    def _no_repeats(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) != len(value):
            raise ValueError("an augmentation is named twice")
        return tuple(sorted(value))


class LossSettings(Settings):
    """How the terms are computed (see `model.losses`); their weights are given apart."""

    weighting: Literal["fixed"] = "fixed"
    edge: Literal["gradient", "smoothness"] = "gradient"
    silog_alpha: float = Field(0.85, ge=0, le=1)
    silog_form: Literal["plain", "rooted"] = "plain"
    ssim_data_range: float | None = Field(None, gt=0, allow_inf_nan=False, description="metres; d_max by default")


class RunSettings(Settings):
    """All that determines one run apart from data and machine."""

    model: ModelSettings
    train: TrainSettings
    loss: LossSettings
    weights: dict[str, float]
    seed: int = Field(ge=0)
    depth_range: tuple[float, float] = (0.1, 10.0)

    @property
    def ssim_data_range(self) -> float:
        """SSIM's data range in metres: as set, else the far end of the depth range."""
        return self.loss.ssim_data_range or self.depth_range[1]

    @field_validator("weights")
    @classmethod
    def _usable_weights(cls, value: dict[str, float]) -> dict[str, float]:
        for term, weight in value.items():
            if term not in TERMS:
                raise ValueError(f"unknown term {term!r}; the terms are {', '.join(TERMS)}")
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {term} is {weight}; weights are finite and not negative")
        if not sum(value.values()) > 0:
            raise ValueError("the weights sum to nothing; at least one must be positive")
        return {term: float(value.get(term, 0.0)) for term in TERMS}
