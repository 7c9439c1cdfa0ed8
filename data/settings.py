"""Where pictures come from and how they are prepared: the `[data]` section of a spec."""

from typing import TYPE_CHECKING, Annotated, Any, Literal, NotRequired, get_args, get_origin

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
    with_config,
)
from typing_extensions import TypedDict

from depth_loss_sweep.data.crop import Crop
from depth_loss_sweep.data.registry import SOURCES, source_forms
from depth_loss_sweep.registry import options_of


class Settings(BaseModel):
    """Base of all settings: immutable, no unknown keys, no number made of a text or of true and false."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _no_conversion(cls, value: Any, info: ValidationInfo) -> Any:
        if (info.context or {}).get("stored"):  # earlier versions let it pass
            return value
        kinds = _kinds(cls.model_fields[str(info.field_name)].annotation)
        for part in value if isinstance(value, list | tuple) else [value]:
            is_text_for_a_number = isinstance(part, str) and kinds <= {int, float, bool, type(None)}
            if is_text_for_a_number or (isinstance(part, bool) and bool not in kinds and kinds & {int, float}):
                expected = "a number" if kinds & {int, float} else "true or false"
                raise ValueError(f"expected {expected}{', not a text' * isinstance(part, str)}")
        return value

    def __hash__(self) -> int:
        # Options of the user's own are a mapping, which has no hash; and JSON has no bytes that aren't UTF-8, as paths may have.
        return hash(repr(self))


Option = bool | int | float | str | tuple[bool | int | float | str, ...]
"""What an option of the user's own code may be: what TOML and JSON keep as it is."""


def own_options(of: str) -> Any:
    """The field of such options; where there are none it is not stated, so that what is known by its settings stays known."""
    return Field({}, description=f"options of {of}, by name", exclude_if=lambda value: not value)


def _kinds(annotation: Any) -> set[Any]:
    """The plain types that a field's annotation is made of; a choice counts as the type of its values."""
    parts = get_args(annotation)
    if get_origin(annotation) is Literal:
        return {type(choice) for choice in parts}
    return set().union(*map(_kinds, (part for part in parts if part is not ...))) if parts else {annotation}


class _DataSettings(Settings):
    """One source, one size, one split. Depths are metres; sizes are pixels (height, width)."""

    source: str = Field("rooms", description=f"{source_forms()}; rooms are rendered and need nothing")
    image_size: tuple[int, int] = Field(
        (256, 256),
        description="pixels, height and width, or one number for both; divisible by 8, aspect ratio not kept",
    )
    depth_resize: Literal["auto", "area", "any"] = Field(
        "auto",
        description="area: a pixel is valid where half of what it covers is; any, for sparse depth: the median of what is "
        "valid there, if anything is; auto: area, but any where that leaves nothing to train or validate on",
    )
    split: Literal["auto", "scene", "folders", "random"] = Field(
        "auto",
        description="which pictures train and which judge: whole scenes, as folders say, or each picture by chance",
    )
    split_seed: int = Field(0, ge=0, description="of the draw of scenes or pictures")
    val_fraction: float = Field(0.15, gt=0, lt=1, description="of the scenes (of the images, for a random split)")
    test_fraction: float = Field(0.15, ge=0, lt=1, description="where the folders hold no test split")
    train_images: int | None = Field(None, ge=1, description="use only so many training images, drawn by split_seed")
    val_images: int | None = Field(None, ge=1, description="use only so many validation images, likewise")
    depth_range: tuple[float, float] = Field((0.1, 10.0), description="metres; truth beyond it is masked and counted")
    crop: Crop = Field(
        "none",
        description="validation and test are judged by truth within it alone: KITTI's garg or eigen, NYU's eigen_nyu; training sees all",
    )
    depth_scale: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description='metres a unit of the depth files, also as a fraction such as "1/5000"; by default 1 for fractions, and for '
        "whole numbers what the layout has: 1/5000 (tum), 1/256 (kitti), else 0.001",
    )
    depth_at_255: float | None = Field(
        None,
        gt=0,
        le=100_000,
        description="metres that 255 stands for in depth files of 8 bits, which are refused else",
    )
    invalid_value: int = Field(0, ge=0, description="the number in depth files that means no depth")
    rgb_field: str | None = Field(None, description="h5, parquet: the dataset or column of the pictures")
    depth_field: str | None = Field(
        None, description="h5, parquet, depth files of HDF5 or OpenEXR: the dataset, column or channel of the depth"
    )
    scenes: Literal["all", "indoors", "outdoor"] = Field("all", description="diode: which part")
    rooms: int = Field(200, ge=3, le=100_000, description="rooms: how many rooms are rendered")
    views: int = Field(2, ge=1, le=100, description="rooms: pictures of each room")
    options: dict[str, Option] = own_options("pictures of your own")

    @field_validator("depth_scale", mode="before")
    @classmethod
    def _fraction(cls, value: Any) -> Any:
        if not isinstance(value, str) or "/" not in value:
            return value
        try:
            above, below = map(float, value.split("/"))
            return above / below
        except (ValueError, ZeroDivisionError):
            raise ValueError('expected metres a unit, as a number or a fraction such as "1/5000"') from None

    @field_validator("image_size", mode="before")
    @classmethod
    def _square(cls, value: Any) -> Any:
        return (value, value) if isinstance(value, int) and not isinstance(value, bool) else value

    @field_validator("image_size")
    @classmethod
    def _divisible(cls, value: tuple[int, int]) -> tuple[int, int]:
        if any(not 16 <= side <= 8192 or side % 8 for side in value):
            raise ValueError(f"image_size is {value[0]}x{value[1]}; both sides must be divisible by 8, from 16 to 8192")
        return value

    @property
    def unit(self) -> float | None:
        """Metres that 1 stands for in the source's depth files of whole numbers; None where that needs no saying."""
        entry = SOURCES.get(self.source.partition(":")[0])
        return None if entry is None or entry.unit is None else self.depth_scale or entry.unit

    @model_validator(mode="after")
    def _ranges(self) -> "_DataSettings":
        low, high = self.depth_range
        if not 0 < low < high < float("inf"):
            raise ValueError(f"depth_range is [{low}, {high}]; expected 0 < d_min < d_max, in metres")
        if self.val_fraction + self.test_fraction >= 1:
            raise ValueError("val_fraction and test_fraction leave no image to train on")
        return self


if TYPE_CHECKING:
    DataSettings = _DataSettings
else:
    DataSettings = create_model(
        "DataSettings", __base__=_DataSettings, __doc__=_DataSettings.__doc__, **options_of(SOURCES)
    )


@with_config(ConfigDict(extra="allow"))
class DataSummary(TypedDict):
    """What is relied on of the stored `data.prepare.Prepared.summary`."""

    source: str
    fingerprint: str
    identity: str
    image_size: Annotated[list[int], Field(min_length=2, max_length=2)]
    scenes_shared_with_train: dict[str, int]
    images: NotRequired[dict[str, int]]
