import pytest
from hypothesis import settings

# How long an example takes says how busy the machine is.
settings.register_profile("any machine", deadline=None)
settings.load_profile("any machine")

TRAINING = {
    *(
        "test_api",
        "test_budget",
        "test_confirmation",
        "test_coordinator",
        "test_failures",
        "test_finals",
        "test_fuzz",
        "test_halving",
    ),
    *(
        "test_lease",
        "test_networks",
        "test_outage",
        "test_own_code",
        "test_pages",
        "test_race",
        "test_retention",
        "test_shared_database",
    ),
    *("test_slurm", "test_stress", "test_two_objectives", "test_value", "test_weightings"),
}
"""Modules of tests/sweep whose tests train in processes of their own, one after the other: all of it is slow."""
BROWSERS = "test_browser"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `make quick` leaves out: whole modules whose tests each take a second or two, beside those that are marked one by one."""
    for item in items:
        if (item.path.parent.name == "sweep" and item.path.stem in TRAINING) or item.path.stem.startswith(BROWSERS):
            item.add_marker("slow")
