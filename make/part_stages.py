"""The commands of the stages that compute a part of a data set, and their running processes."""

from __future__ import annotations

import shlex
import subprocess
import threading

from hrnet.cli import UserError, WorkFailed
from hrnet.given import settle

HINT = "finished parts are kept for a rerun"


class Stopped(Exception):
    """Another part has failed, or the run was interrupted."""


class Stages:
    """The commands of the stages and their running processes. `templates`: {stage: command}, in which `{shard}`,
    `{work}` and other names in braces are replaced by values; an empty command: the stage is not needed."""

    def __init__(self, templates: dict[str, str]) -> None:
        self.templates = templates
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def run(self, name: str, lock: int, **values: object) -> None:
        """Run a stage; its process inherits the part's lock. Raises UserError (exit 2) or WorkFailed (another exit
        code) if it fails, and Stopped after `stop`."""
        words = shlex.split(self.templates[name])
        for key, value in values.items():
            words = [word.replace(f"{{{key}}}", str(value)) for word in words]
        with self._lock:
            if self.stopped:
                raise Stopped
            process = subprocess.Popen(words, pass_fds=[lock])
            self._running.add(process)
        code = process.wait()
        with self._lock:
            self._running.discard(process)
            if self.stopped:
                raise Stopped
        if code == 0:
            settle(0)  # make remembers the variables of this call, even if a later stage fails
        else:
            what = f"part {values['shard']}: {name} failed, see above"
            raise (UserError if code == 2 else WorkFailed)(what, found=f"exit {code}", hint=HINT)

    def stop(self) -> None:
        """Terminate the running stages, and start no others."""
        with self._lock:
            self.stopped = True
            for process in self._running:
                process.terminate()
