"""How quantities are said, and one of them read: counts with their plurals, durations, sizes. ASCII only."""

import re

from depth_loss_sweep.errors import SpecError

SECONDS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
UNITS = (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
DURATION = re.compile("".join(rf"(?:(?P<{unit}>[0-9]{{1,9}}){unit})?" for unit in SECONDS))


def counted(count: int, noun: str, verb: str = "", verbs: str = "", plural: str = "") -> str:
    """ "1 run folder belongs", "3 run folders belong"."""
    return f"{count} {noun if count == 1 else plural or noun + 's'} {verb if count == 1 else verbs}".rstrip()


def duration(seconds: float) -> str:
    """Seconds as people say them: "45 s", "12 min", "3 h 05 min", "4 d 06 h"."""
    if seconds < 89.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours = round(minutes / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if hours < 48 else f"{hours // 24} d {hours % 24:02d} h"


def size(count: float) -> str:
    """Bytes as people say them: "35 kB", "190 MB", "2.1 GB"."""
    unit, one = next(((unit, one) for unit, one in UNITS if count >= one), UNITS[-1])
    return f"{count / one:.{1 if count < 9.95 * one else 0}f} {unit}"


def shortened(text: str, width: int) -> str:
    """A text of at most so many signs: what is too much goes from the middle."""
    if len(text) <= width:
        return text
    left = max(0, width - 3)
    return text[: (left + 1) // 2] + "..."[:width] + text[len(text) - left // 2 :]


def parse_budget(text: str) -> float:
    """The seconds of `--budget 1h30m`; a number without a unit is refused, since it could be any of them."""
    given = text.strip().lower()
    match = DURATION.fullmatch(given)
    seconds = sum(int(match[unit] or 0) * SECONDS[unit] for unit in SECONDS) if match else 0
    if not seconds:
        meant = f" (did you mean {given}m?)" if re.fullmatch("[1-9][0-9]{0,8}", given) else ""
        raise SpecError(
            f"--budget {text!r}{meant}: expected a time of days, hours, minutes and seconds, such as 90m, 2h or 1h30m"
        )
    return float(seconds)
