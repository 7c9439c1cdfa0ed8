"""A database that is away and comes back: how that is told from what is wrong, how it is waited for, and how a silent one is cut off.

A lock on SQLite's file passes by itself, and so does what a server of PostgreSQL suffers from: a restart, a connection that is
cut, a network that swallows all. Only a session at work waits for that; every other command says so and ends.
"""

import logging
import sqlite3
import time
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from threading import Thread
from typing import Any, TypeVar
from uuid import uuid4

from sqlalchemy import Engine, event, text
from sqlalchemy.engine import URL, ExceptionContext
from sqlalchemy.exc import OperationalError

from depth_loss_sweep.errors import DatabaseAwayError, hide_password
from depth_loss_sweep.words import duration

ANSWER_S = 30.0
"""A server that says nothing for so long is gone: none of our questions takes it nearly as long."""
SAID_S = 5.0
STOP_S = 0.5
"""For how long an answer is still waited for once a stop was asked for."""
TICK_S = 0.1
PAUSES = (0.0, 0.1, 0.2, 0.5, 1.0, 2.0)
LOCKED_S = 1.0
"""How long SQLite itself waits for a lock; in it nobody hears of a stop."""

PASSING = ("57P01", "57P02", "57P03", "57P05", "53300", "40001", "40P01", "55P03", "25P03")
"""Shut down, crashed, starting up, idle for too long, too many connections, serialization, deadlock, a lock, idle in transaction."""
KEEPALIVE = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,
}
STALE = text(
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()"
)
_Result = TypeVar("_Result")


def keepalive(url: URL) -> dict[str, int]:
    """Options of libpq by which a dead network is noticed at all, but for those that the URL has."""
    is_ours = url.drivername.endswith("+psycopg")
    return {key: value for key, value in KEEPALIVE.items() if key not in url.query} if is_ours else {}


class Outage:
    """What a session does while its database is away: waits, says so once, and listens for a stop."""

    def __init__(self, should_stop: Callable[[], bool], note: Callable[[str], None]) -> None:
        self.should_stop, self.note = should_stop, note
        self.since: float | None = None
        self.tries, self.is_said, self.is_given_up = 0, False, False

    def watch(self, engine: Engine) -> None:
        """From here on what passes by itself is raised as `DatabaseAwayError`, and no wait for an answer is without end."""
        if engine.dialect.name == "sqlite":
            event.listen(engine, "connect", _wait_shortly)
        elif engine.dialect.driver == "psycopg":
            event.listen(engine, "do_connect", self._connector())
        else:
            return
        event.listen(engine, "handle_error", self._translate)

    def until_back(self, engine: Engine, action: Callable[[], _Result]) -> _Result:
        """Do what may be done again, as often as it takes until the database is there for it."""
        while True:
            try:
                if self.since is not None:
                    _end_stale_sessions(engine)
                result = action()
            except DatabaseAwayError as error:
                self._pause(error)
            else:
                self._is_over()
                return result

    def _pause(self, error: DatabaseAwayError) -> None:
        """Wait a little, and KeyboardInterrupt where a stop is asked for: nothing more is asked of this database then."""
        begun = time.monotonic()
        self.since = self.since or begun
        pause = PAUSES[min(self.tries, len(PAUSES) - 1)]
        self.tries += 1
        try:
            while True:
                if self.should_stop():
                    raise KeyboardInterrupt
                if time.monotonic() - self.since >= SAID_S:
                    self._say(str(error))
                left = begun + pause - time.monotonic()
                if left <= 0:
                    return
                time.sleep(min(TICK_S, left))
        except KeyboardInterrupt:  # asked for by the line above, or, from Python, by Ctrl-C itself
            self.is_given_up = True
            raise

    def _say(self, why: str) -> None:
        if not self.is_said:
            self.is_said = True
            self.note(f"{why}; waiting until it can (Ctrl-C stops)")

    def _is_over(self) -> None:
        if self.is_said:
            away = f" after {duration(time.monotonic() - self.since)}" if self.since else ""
            self.note(f"the database is back{away}")
        self.since, self.tries, self.is_said = None, 0, False

    def _translate(self, context: ExceptionContext) -> None:
        if passes(context):
            reason = (hide_password(str(context.original_exception)).splitlines() or ["it is gone"])[0]
            url = context.engine.url if context.engine else "that was asked for"
            raise DatabaseAwayError(f"the database {hide_password(str(url))} cannot be used: {reason}")

    # PostgreSQL

    def _connector(self) -> Callable[..., Any]:
        """How SQLAlchemy connects: under a name by which a session that was cut off is found and ended on the server."""
        from psycopg import Connection, OperationalError, waiting

        logging.getLogger("psycopg").setLevel(logging.ERROR)  # what its connections suffer from is told by us
        outage, name = self, f"sweep {uuid4().hex[:12]}"

        class Bounded(Connection[Any]):
            """A connection that no silent server holds up for longer than `ANSWER_S`, and none that is to stop."""

            def wait(self, gen: Any, interval: float = TICK_S, timeout: float | None = None) -> Any:
                limit = {} if timeout is None else {"timeout": timeout}
                try:
                    return waiting.wait(outage._bounded(gen, OperationalError), self.pgconn.socket, interval, **limit)
                except (OperationalError, KeyboardInterrupt) as error:
                    if (
                        getattr(error, "sqlstate", None) is None
                    ):  # no word of the server's, and what it says later answers nothing
                        self.pgconn.finish()
                    raise

        def connect(_dialect: Any, _record: Any, arguments: Any, parameters: dict[str, Any]) -> Any:
            begun = time.monotonic()
            connected = _in_thread(lambda: Bounded.connect(*arguments, **{**parameters, "application_name": name}))
            try:
                while not wait([connected], TICK_S).done:
                    outage._check_silence(time.monotonic() - begun, OperationalError)
            except BaseException:
                connected.add_done_callback(_close)  # nobody waits for it any more
                raise
            return connected.result()

        return connect

    def _bounded(self, steps: Generator[Any, Any, _Result], error: type[Exception]) -> Generator[Any, Any, _Result]:
        heard = time.monotonic()
        try:
            state = next(steps)
            while True:
                ready = yield state
                if ready:
                    heard = time.monotonic()
                else:
                    self._check_silence(time.monotonic() - heard, error)
                state = steps.send(ready)
        except StopIteration as end:
            return end.value

    def _check_silence(self, seconds: float, error: type[Exception]) -> None:
        if seconds >= SAID_S:
            self._say("the database does not answer")
        if self.is_given_up or seconds >= ANSWER_S or (seconds >= STOP_S and self.should_stop()):
            self.since = self.since or time.monotonic() - seconds
            raise error(f"no answer for {duration(seconds)}")


def passes(context: ExceptionContext) -> bool:
    """Whether an error is no fault of the question, and asking again later may help."""
    error = context.original_exception
    if isinstance(error, sqlite3.OperationalError):
        code = getattr(error, "sqlite_errorcode", 0)  # what sqlite3 itself objects to has none
        return code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    state = getattr(error, "sqlstate", None)
    is_unreachable = context.connection is None and isinstance(context.sqlalchemy_exception, OperationalError)
    return context.is_disconnect or is_unreachable or state in PASSING or str(state).startswith("08")


def _end_stale_sessions(engine: Engine) -> None:
    """End what is left on the server of sessions that were cut off, so that they hold no locks and commit nothing any more."""
    if engine.dialect.name != "postgresql":
        return
    with engine.connect() as connection:
        while connection.scalar(STALE):
            connection.rollback()  # who is at work is looked up once a transaction
            time.sleep(TICK_S)


def _wait_shortly(connection: sqlite3.Connection, _record: Any) -> None:
    connection.execute(f"PRAGMA busy_timeout = {LOCKED_S * 1000:.0f}")


def _close(connected: "Future[Any]") -> None:
    if connected.exception() is None:
        connected.result().close()


def _in_thread(work: Callable[[], _Result]) -> "Future[_Result]":
    """What comes of work, in a thread that may be left behind."""
    result: Future[_Result] = Future()

    def run() -> None:
        try:
            result.set_result(work())
        except BaseException as error:
            result.set_exception(error)

    Thread(target=run, daemon=True).start()
    return result
