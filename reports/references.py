"""Reference points: weights known by name, the paper's and those that other projects train with, each as read in its source."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

POINT = "point"
"""The variable of a study that sweeps reference points."""

WEIGHTING, FIXED = "loss.weighting", "fixed"
"""The field that says by which rule weights go, and the rule that leaves them as they are given."""

EQUAL = "equal"
EQUAL_TERMS = ("silog", "ssim", "edge", "l1")
PAPER = "paper-table-2"


@dataclass(frozen=True)
class Reference:
    """Weights by term (none for `equal`, whose terms the study says), and settings of the loss that belong to them."""

    name: str
    weights: Mapping[str, float]
    note: str
    read_in: str = ""
    loss: Mapping[str, Any] = field(default_factory=dict)

    def weights_with(self, terms: Sequence[str]) -> dict[str, float]:
        """Its weights; 1 for each of `terms` where it is `equal`."""
        return dict(self.weights) or dict.fromkeys(terms, 1.0)


_GRADIENT = {"edge": "gradient"}
_TIMES_TEN = (
    "SILog alone, rooted, α 0.85, so its term is another quantity; the factor 10 is a scale, which Adam ignores"
)


def _rooted(alpha: float) -> dict[str, Any]:
    return {"silog_form": "rooted", "silog_alpha": alpha}


REFERENCES = {
    reference.name: reference
    for reference in (
        Reference(
            PAPER, {"ssim": 0.55, "edge": 0.45, "l1": 0.05}, "the paper's final weights", "its Table 2", _GRADIENT
        ),
        Reference(
            "densedepth",
            {"ssim": 0.5, "edge": 1.0, "l1": 0.1},
            "made for inverse depth; here the terms are of depth in metres, whose sizes are others",
            "ialhashim/DenseDepth loss.py",
            _GRADIENT,
        ),
        Reference("bts", {"silog": 1.0}, _TIMES_TEN, "cleinc/bts bts.py", _rooted(0.85)),
        Reference("newcrfs", {"silog": 1.0}, _TIMES_TEN, "NeWCRFs utils.py", _rooted(0.85)),
        Reference("zoedepth", {"silog": 1.0}, _TIMES_TEN, "ZoeDepth config_zoedepth.json", _rooted(0.85)),
        Reference(
            "depth-anything-v2-metric",
            {"silog": 1.0},
            "SILog alone, rooted, α 0.5, so its term is another quantity; ours has a factor 10, a scale, which Adam ignores",
            "Depth-Anything-V2 metric_depth/util/loss.py",
            _rooted(0.5),
        ),
        Reference(
            "midas",
            {"ssi_mae": 1.0, "ms_gradient": 0.5},
            "made for disparity; here of depth, whose scale and shift it leaves open: the aligned metrics judge it, not those in metres",
            "MiDaS #2, FocusOnDepth",
            {"ms_gradient_scales": 4},
        ),
        Reference(
            "hu-2019",
            {"log_offset": 1.0, "log_gradient": 1.0, "normals": 1.0},
            "log-offset errors of depth in metres and of its gradients, and surface normals",
            "JunjH/Revisiting_Single_Depth_Estimation train.py",
            {"log_offset_alpha": 0.5, "log_gradient_alpha": 0.5},
        ),
        Reference("silog", {"silog": 1.0}, "SILog alone"),
        Reference("ssim", {"ssim": 1.0}, "SSIM alone"),
        Reference("edge", {"edge": 1.0}, "the edge term alone"),
        Reference("l1", {"l1": 1.0}, "L1 alone"),
        Reference("smoothness", {"smoothness": 1.0}, "smoothness alone, which does not look at the true depth"),
        Reference(EQUAL, {}, "λ = 1 for each of search.terms"),
    )
}


def allowed_references(terms: Sequence[str]) -> list[Reference]:
    """The reference points that weigh nothing but these terms; a single term by itself is none."""
    return [r for r in REFERENCES.values() if r.weights and {*r.weights} <= {*terms} and r.name not in terms]


# Known, and not to be had: asked for, they are refused with the reason.
LACKING = {
    "adabins": "it weighs a chamfer distance of its depth bins",
}


@dataclass(frozen=True)
class Candidate:
    """What is trained under fresh seeds: weights and swept fields, by a name and the roles it has; a trial's number if it is one."""

    name: str
    roles: tuple[str, ...]
    weights: dict[str, float]
    fields: dict[str, Any] = field(default_factory=dict)
    trial: int | None = None

    def is_as(self, other: "Candidate", is_scale_free: bool) -> bool:
        """Whether both would train alike; proportional weights do where the optimiser ignores the scale."""
        return self.fields == other.fields and _shares(self.weights, is_scale_free) == _shares(
            other.weights, is_scale_free
        )


def _shares(weights: Mapping[str, float], is_scale_free: bool) -> dict[str, float]:
    total = math.fsum(weights.values()) if is_scale_free else 1.0
    return {term: round(weight / total, 9) for term, weight in weights.items() if weight}
