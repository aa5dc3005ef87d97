"""Run a command that ends with its caller: if the caller is killed, the command and all its processes are killed too.

    python -m make.attached make part SHARD=3/64

The caller keeps the other end of stdin open. The kernel closes it when the caller ends for any reason. Used on the
nodes of a cluster: otherwise the stages of a killed worker would continue and keep the lock of their part.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Optional

from hrnet.cli import command

STDIN = 0
KILLED = 128 + signal.SIGKILL  # as in a shell


def run(words: list[str]) -> int:
    """The exit code of the command (128 + signal if a signal ended it); KILLED if the caller ended first or sent
    SIGTERM."""
    child = subprocess.Popen(words, stdin=subprocess.DEVNULL, start_new_session=True)
    ended = threading.Lock()  # stays locked after the child has ended: another process may then get its id

    def kill() -> None:
        if ended.acquire(blocking=False):  # else there is nothing to kill, or the other thread is killing it
            os.killpg(child.pid, signal.SIGKILL)
            ended.release()

    def watch() -> None:
        while os.read(STDIN, 1 << 16):
            pass
        kill()

    def terminate(number: int, frame: Optional[FrameType]) -> None:
        kill()

    signal.signal(signal.SIGTERM, terminate)
    threading.Thread(target=watch, daemon=True).start()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # the id stays in use until child.wait()
    ended.acquire()
    code = child.wait()
    return code if code >= 0 else 128 - code


def parse_args(argv: Optional[list[str]] = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m make.attached", description=__doc__.splitlines()[0])
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="command", help="the command and its arguments")
    args = parser.parse_args(argv)
    if not args.words:
        parser.error("give a command")
    return args


@command
def main(argv: Optional[list[str]] = None) -> int:
    return run(parse_args(argv).words)


if __name__ == "__main__":
    sys.exit(main())
