"""The names of terms, metrics and outcomes: the one list that training, storage and reports agree on. No torch here."""

# The terms of the combined loss (Eq. 6), in the paper's order λ1..λ4, then the optional edge-aware smoothness (Eq. 4).
TERMS = ("silog", "ssim", "edge", "l1", "smoothness")

# What `model.metrics.depth_metrics` returns, per image and then averaged.
METRICS = (
    "rmse",
    "mae",
    "abs_rel",
    "sq_rel",
    "rmse_log",
    "log10",
    "silog",
    "delta1",
    "delta2",
    "delta3",
)

# Beside them, in every evaluation (see `model.metrics.evaluate_metrics`).
EXTRA_METRICS = (
    "rmse_pooled",
    "rmse_scaled",
    "abs_rel_scaled",
    "delta1_scaled",
    "boundary_f1",
    "rmse_near",
    "rmse_mid",
    "rmse_far",
)

# Metrics where more is better; all others are errors.
HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3", "delta1_scaled", "boundary_f1"})

# How a run can end as a result. `failed` (our error or the machine's) is not among them.
OUTCOMES = ("learnt", "trivial", "flat", "spiking", "non_finite")

# The trivial predictors every result stands beside.
BASELINES = ("median", "mean_map")
