from itertools import chain

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
        "test_copies",
        "test_doctor",
        "test_failures",
    ),
    *("test_finals", "test_forecast", "test_fuzz", "test_halving", "test_homes", "test_inference", "test_lease"),
    *("test_networks", "test_outage", "test_outputs", "test_own_code", "test_pages", "test_paper", "test_race"),
    *("test_ray", "test_retention", "test_shared_database", "test_slurm", "test_status", "test_stress"),
    *("test_surroundings", "test_two_objectives", "test_value", "test_weightings"),
}
"""Modules of tests/sweep whose tests train in processes of their own, one after the other: all of it is slow."""
WHOLE_PAGES = ("test_browser", "test_paper", "test_slides", "test_ten_studies")
"""How modules of tests/reports begin that make or open whole pages, or whole groups of studies."""

WAITING = ("test_slurm", "test_ray", "test_shared_database", "test_outage", "test_stress")
LONGEST = ("test_coordinator", "test_failures", "test_race", "test_finals", "test_halving")
"""Modules of which a few tests wait for minutes, and those that take longest: begun first, nobody waits for them in the end; by
turns, since what waits leaves the machine to what computes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What `make quick` leaves out: whole modules whose tests each take a second or two, beside those that are marked one by one."""
    first = {stem: place for place, stem in enumerate(chain(*zip(WAITING, LONGEST, strict=True)))}
    items.sort(key=lambda item: first.get(item.path.stem, len(first)))
    for item in items:
        folder, module = item.path.parent.name, item.path.stem
        if (folder == "sweep" and module in TRAINING) or (folder == "reports" and module.startswith(WHOLE_PAGES)):
            item.add_marker("slow")
