"""A server of PostgreSQL of one's own, without root's help, and a network to it that fails on demand."""

import os
import pwd
import shutil
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import psycopg

from depth_loss_sweep.paths import Home
from depth_loss_sweep.store import Store

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it asks for a folder of ours that it doesn't use here
    from pgserver import _commands as commands
    from pgserver import utils

PASSWORD = "s3cret-of-the-server"


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """A cluster in a folder, reached by password on a port of this machine."""

    def __init__(self, folder: Path) -> None:
        self.data, self.port, self.user = folder / "data", free_port(), None
        self.numbers = count()
        self.data.mkdir(parents=True)
        password = folder / "password"
        password.write_text(PASSWORD)
        if os.geteuid() == 0:  # which PostgreSQL refuses to run as
            self.user = "pgserver"
            utils.ensure_user_exists(self.user)
            for path in (self.data, commands.POSTGRES_BIN_PATH):
                utils.ensure_prefix_permissions(path)
            for path in (commands.POSTGRES_BIN_PATH, commands.POSTGRES_BIN_PATH.parent / "lib"):
                utils.ensure_folder_permissions(path, 0o055)
            for path in (self.data, password):
                shutil.chown(path, self.user, pwd.getpwnam(self.user).pw_gid)
        options = ["--auth=scram-sha-256", f"--pwfile={password}", "--encoding=utf8", "-U", "me", "--no-sync"]
        commands.initdb(options, pgdata=self.data, user=self.user)
        self.start()

    def create(self) -> str:
        """A new, empty database; its name."""
        name = f"d{next(self.numbers)}"
        self._ask(f"CREATE DATABASE {name}")
        return name

    def terminate(self, database: str) -> int:
        """End all connections to a database, as an administrator may; how many there were."""
        others = f"FROM pg_stat_activity WHERE datname = '{database}' AND pid <> pg_backend_pid()"
        return int(self._ask(f"SELECT count(pg_terminate_backend(pid)) {others}")[0][0])

    def _ask(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.url("postgres").replace("+psycopg", ""), autocommit=True) as connection:
            answer = connection.execute(statement)
            return answer.fetchall() if answer.description else []

    def url(self, database: str, port: int | None = None, password: str = PASSWORD) -> str:
        """The URL of a database, by way of another port where one is given; without a password where it is empty."""
        user = f"me:{password}" if password else "me"
        return f"postgresql+psycopg://{user}@127.0.0.1:{port or self.port}/{database}"

    def passfile(self, path: Path, database: str) -> Path:
        """A file for PGPASSFILE that holds the password of a database; nobody else may read it."""
        path.touch(0o600)
        path.write_text(f"127.0.0.1:*:{database}:me:{PASSWORD}\n")
        return path

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -h 127.0.0.1 -k {self.data} -c fsync=off"
        self._control("-w", "-o", options, "-l", str(self.data / "log"), "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it; `immediate` is as good as a crash."""
        self._control("-w", "-m", mode, "stop")

    def _control(self, *arguments: str) -> None:
        commands.pg_ctl(list(arguments), pgdata=self.data, user=self.user)


@contextmanager
def opened(home: Home, url: str, create: bool = False) -> Iterator[Store]:
    """The database at a URL, for a while."""
    store = Store.open(home, url, create=create)
    yield store
    store.engine.dispose()


class Network:
    """A way to a server that cuts commits before they arrive or after they were made, and swallows what is sent."""

    def __init__(self, target: int) -> None:
        self.target, self.is_swallowing, self.cut, self.cuts = target, False, "", 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.links: set[tuple[socket.socket, socket.socket]] = set()
        threading.Thread(target=self._accept, daemon=True).start()

    def sever(self) -> None:
        """Cut every connection."""
        for link in [*self.links]:
            self._close(link)

    def close(self) -> None:
        """Cut every connection, and refuse others."""
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.sever()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                try:
                    link = (client, socket.create_connection(("127.0.0.1", self.target)))
                except OSError:
                    client.close()
                    continue
                self.links.add(link)
                for direction in (link, link[::-1]):
                    threading.Thread(target=self._pump, args=(*direction, link), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, link: tuple[socket.socket, socket.socket]) -> None:
        is_question = source is link[0]
        with suppress(OSError):
            while data := source.recv(65536):
                if self.is_swallowing:
                    continue
                if self.cut == "before" and is_question and b"COMMIT" in data:
                    self.cut, self.cuts = "", self.cuts + 1
                    break
                if self.cut == "after" and not is_question and b"COMMIT" in data:  # the server says that it is done
                    self.cut, self.cuts = "", self.cuts + 1
                    break
                sink.sendall(data)
        self._close(link)

    def _close(self, link: tuple[socket.socket, socket.socket]) -> None:
        self.links.discard(link)
        for end in link:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
