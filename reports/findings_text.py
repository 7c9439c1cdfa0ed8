"""What came of the paper's claims as one text: Markdown, with what made it."""

from dataclasses import dataclass
from pathlib import Path

from depth_loss_sweep.reports.findings import GAINS_MEAN, VERDICTS_MEAN, Account, Told, pictures

SURE_MEAN = (
    "Intervals are as sure as all claims together ask for: what the looks at a claim and the other claims beside it (Holm) leave of 5 %, "
    "hence 99.9 %. Those of pairs are of the mean over seeds (of logs, where shares are told), by Student's t or by Hall's, which minds "
    "skewed differences, whichever reaches further."
)
TERMS_MEAN = (
    "Boundary F1 says how far depth edges agree with the true ones: 1 all of them, 0 none. Training median and mean map are what is "
    "reached without looking at a picture: one depth for all pixels, or one for each pixel. Across machines: the two runs of a pair were "
    "trained in different environments, so that their difference holds what differs between those."
)
TAKEN_UP = "Runs taken over were trained before, some elsewhere, and taken up as they were."
LEGEND = f"{VERDICTS_MEAN} {GAINS_MEAN} {SURE_MEAN} {TERMS_MEAN} {TAKEN_UP}\n"


@dataclass(frozen=True)
class Made:
    """What made a group, beside what its records tell: the command, and the commit of the code."""

    command: str = ""
    commit: str = ""


TITLE = "# What came of the paper's claims: "


def is_findings(path: Path) -> bool:
    """Whether a file is a text that `paper_text` made."""
    try:
        with path.open(encoding="utf-8") as stream:
            return stream.readline().startswith(TITLE)
    except (OSError, UnicodeDecodeError):
        return False


def paper_table(told: Account) -> str:
    """The verdicts as a short Markdown table."""
    lines = [
        f"| | claim | verdict {told.where} | effect (interval, how sure it is, of how many) |",
        "|---|---|---|---|",
    ]
    for each in told.told:
        effect = f"{each.principal.words}: {each.principal.text}" if each.principal else ""
        cells = (each.claim.number, each.claim.words, f"**{each.verdict}**", effect)
        lines.append(f"| {' | '.join(map(_escaped, cells))} |")
    return "\n".join(lines) + "\n"


def paper_text(told: Account, made: Made) -> str:
    """All findings as Markdown: each with its rule, statements, what is beside it, and at the end what made it."""
    warning = f"**{_escaped(told.warning)}**\n\n" if told.warning else ""
    if told.missing:
        warning += f"**Not trained to the end yet, of the studies that are asked for: {', '.join(told.missing)}.**\n\n"
    parts = [
        f"{TITLE}{_escaped(told.name)}\n\n{warning}{paper_table(told)}\n{LEGEND}",
        *(_claim_text(each, told.where, made) for each in told.told),
        _origin_text(told, made),
    ]
    return "\n".join(parts)


def _claim_text(each: Told, where: str, made: Made) -> str:
    claim = each.claim
    lines = [
        f"## {claim.number}: {claim.words}\n",
        f"{_escaped(each.sentence(where))}\n",
        f"- Place: {claim.place}",
        f"- Rule: {claim.rule}",
        *([f"- Took: {each.cost}"] if each.cost else []),
        *([f"- Run it again: `{made.command} --only {claim.number}`"] if made.command else []),
        *(f"- Its other statement: {_escaped(e.words)}: {e.text}" for e in each.others),
        *(f"- Compared: {_escaped(line)}" for line in each.levels),
        *(f"- Runs: {_escaped(line)}" for line in each.notes),
        *(f"- Beside it: {_escaped(s.words)}: {s.text}" for s in each.beside),
    ]
    return "\n".join(lines) + "\n"


def _origin_text(told: Account, made: Made) -> str:
    versions = sorted({record.version for record in told.records.values() if record.version})
    rows = {
        "Command": f"`{made.command}`" if made.command else "",
        "Text made at commit": made.commit,
        "Version": ", ".join(versions),
        "Took": told.cost,
        "Pictures": "; ".join(f"{source}: {parts}" for source, parts in pictures(told).items()),
        "Trained in": "; ".join(told.environments),
    }
    return "## What made it\n\n" + "".join(f"- {key}: {_escaped(text)}\n" for key, text in rows.items() if text)


def _escaped(text: str) -> str:
    """Text that Markdown's tables and pages take as such."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
