"""A program that imports torch once and forks a worker at each request, so that all of them share one import (Linux).

Forking is safe as long as the process has computed nothing, neither on a GPU nor in threads; and this one never does. It
runs as `python -m sweep.executors.forkserver FD COORDINATOR` and ends with its coordinator; see `sweep.executors.local`.
Each message on its socket is one number: 0 with a pipe attached asks for a worker on that pipe, another number is the
process of a worker that ended, and is answered by how.
"""

import gc
import os
import signal
import socket
import struct
import sys
from multiprocessing.connection import Connection

from sweep.executors.worker import die_with_parent, work

NUMBER = struct.Struct("i")


def serve(requests: socket.socket) -> None:
    """Fork and bury workers until the coordinator is gone."""
    server = os.getpid()
    while True:
        message, pipes, _, _ = socket.recv_fds(requests, NUMBER.size, 1)
        if not message:
            return
        if not pipes:
            (worker,) = NUMBER.unpack(message)
            _, status = os.waitpid(worker, 0)
            requests.send(NUMBER.pack(os.waitstatus_to_exitcode(status)))
        elif os.fork() == 0:
            requests.close()
            work(Connection(pipes[0]), server)
        else:
            os.close(pipes[0])


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; ending is the coordinator's decision
    die_with_parent(int(sys.argv[2]))
    gc.disable()  # nothing that an import makes is garbage
    import model.training  # noqa: F401

    gc.enable()
    gc.freeze()  # workers needn't look through it either, and so share its pages for longer
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
