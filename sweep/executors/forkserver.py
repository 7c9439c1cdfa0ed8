"""A program that imports torch once and forks a worker at each request, so that all of them share one import (Linux).

Forking is safe as long as the process has computed nothing, neither on a GPU nor in threads; and this one never does. It
runs as `python -m depth_loss_sweep.executors.forkserver FD COORDINATOR` and ends with its coordinator; see `local`.

Each message on its socket is a command and the number of a worker, which its coordinator chose. FORK brings the worker's
pipe, WAIT is answered by its number and how it ended. Workers end with the server.
"""

import gc
import os
import signal
import socket
import struct
import sys
import traceback
from multiprocessing.connection import Connection

from depth_loss_sweep.executors.worker import die_with_parent, work

MESSAGE = struct.Struct("ii")
FORK, WAIT = range(2)


def serve(requests: socket.socket) -> None:
    """Fork and bury workers until the coordinator is gone."""
    server, workers = os.getpid(), dict[int, int]()
    while True:
        message, pipes, _, _ = socket.recv_fds(requests, MESSAGE.size, 1)
        if not message:
            return
        command, worker = MESSAGE.unpack(message)
        if command == FORK:
            try:
                process = os.fork()
            except OSError:  # its pipe closes without a word, and those that are at work go on
                traceback.print_exc()
            else:
                if process == 0:
                    requests.close()
                    work(Connection(pipes[0]), server)
                workers[worker] = process
            os.close(pipes[0])
        else:
            code = os.waitstatus_to_exitcode(os.waitpid(workers.pop(worker), 0)[1]) if worker in workers else 1
            requests.send(MESSAGE.pack(worker, code))


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; ending is the coordinator's decision
    die_with_parent(int(sys.argv[2]))
    gc.disable()  # nothing that an import makes is garbage
    import depth_loss_sweep.model.training  # noqa: F401

    gc.enable()
    gc.freeze()  # workers needn't look through it either, and so share its pages for longer
    serve(socket.socket(fileno=int(sys.argv[1])))


if __name__ == "__main__":
    main()
