"""A page that follows a study: it reloads itself, keeps its place, and says when nobody writes it any more.

That is added to a page which is rendered already, so that a page which follows nothing has none of it.
"""

from datetime import datetime

from markupsafe import Markup

from depth_loss_sweep.reports.page import asset, script_source

RELOAD_S = 30
"""How often an open page reloads itself: a file asks nobody whether it has changed."""

STALE_S = 300
"""After how long without being written a page says that it is stale."""

NOTE = Markup(
    '<aside id="live" role="status" data-written="{written}" data-reload="{reload}" data-stale="{stale}">{words}</aside>'
    "<style>{style}</style>\n"
)

FOLLOWING = Markup(
    "<p>Following <b>{name}</b>: last written <time>{time}</time>.</p>"
    "<p hidden><b>Stale.</b> Nobody has written this page since <time>{time}</time>: what followed <b>{name}</b> has ended. "
    "Go on with: <code>{command}</code></p>"
)

STOPPED = Markup(
    "<p><b>{name}</b> is no longer followed, and hasn't ended: last written <time>{time}</time>. Go on with: <code>{command}</code></p>"
)


def following(page: str, name: str, command: str, written: datetime) -> str:
    """A page that reloads itself; `command` is what goes on following once whoever does has ended."""
    script = asset("templates/live.js")
    head, source, rest = page.partition("script-src ")
    words = FOLLOWING.format(name=name, time=_said(written), command=command)
    with_note = _with_note(f"{head}{source}{script_source(script)} {rest}", words, written)
    return _before_end(with_note, f"<script>{script}</script>\n")


def stopped(page: str, name: str, command: str, written: datetime) -> str:
    """A page that was followed and isn't any more, though what it is of hasn't ended; `command` is what goes on."""
    return _with_note(page, STOPPED.format(name=name, time=_said(written), command=command), written)


def _with_note(page: str, words: Markup, written: datetime) -> str:
    note = NOTE.format(
        written=written.isoformat(),
        reload=RELOAD_S,
        stale=STALE_S,
        words=words,
        style=Markup(asset("templates/live.css")),
    )
    return _before_end(page, note)


def _before_end(page: str, addition: str) -> str:
    body, end, rest = page.rpartition("</body>")
    return f"{body}{addition}{end}{rest}"


def _said(written: datetime) -> str:
    return written.strftime("%Y-%m-%d %H:%M:%S UTC")
