"""Start the processes of a distributed training run, and connect them.

Processes are started with torchrun's launcher, so `torchrun … -m train.classification` works too. Backends: hccl with
torch_npu, nccl on CUDA, gloo on the CPU. Not tested on NPU hardware.
"""

from __future__ import annotations

import contextlib
import datetime
import glob
import importlib.util
import logging
import os
import re
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Callable, NamedTuple, Optional

import torch
from torch import distributed, nn

from hrnet.cann import source_set_env
from hrnet.cli import UserError, WorkFailed, cores, plural
from hrnet.hints import PIP
from hrnet.io.files import FILE_MODE
from hrnet.nets import float32

BACKENDS = {"npu": "hccl", "cuda": "nccl", "cpu": "gloo"}
WAIT = 900  # seconds to wait for the other processes
NPUS = "/dev/davinci[0-9]*"
OLDEST_TORCH = (2, 4)  # first version with fused optimisers on the CPU, see ClassificationTask.fused
REPORT_AFTER = 5.0  # seconds of waiting before a message reports it
UNSET = "unset RANK WORLD_SIZE"
POLL = 1.0  # seconds between two checks that the launcher is alive

Log = Callable[[str], None]


class DistributedContext(NamedTuple):
    """This process in a distributed run."""

    rank: int
    processes: int
    device: torch.device

    @property
    def first(self) -> bool:
        return self.rank == 0

    def total(self, *values: float) -> list[float]:
        """Each value summed over all processes."""
        sums = torch.tensor(values, dtype=torch.float64 if self.device.type == "cpu" else torch.float32)
        if self.processes > 1:
            sums = sums.to(self.device)
            distributed.all_reduce(sums)
        return sums.tolist()

    def broadcast_buffers(self, net: nn.Module) -> None:
        """Copy the first process's batch norm statistics to all processes, so that they validate what it saves."""
        if self.processes > 1:
            for buffer in net.buffers():
                distributed.broadcast(buffer, 0)


@contextlib.contextmanager
def log_file(path: Path, context: DistributedContext) -> Iterator[Log]:
    """Yield a function that writes a line to this process's log file; the first process also prints the line."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, FILE_MODE)
    with open(descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1) as file:

        def log(line: str) -> None:
            file.write(f"{line}\n")
            if context.first:
                print(line, flush=True)

        yield log


def accelerator() -> str:
    """npu, cuda or cpu: the first that is available."""
    if importlib.util.find_spec("torch_npu"):
        try:
            import torch_npu  # adds torch.npu
        except (ImportError, RuntimeError) as error:  # a library of CANN is missing, or a CUDA build of torch
            reason = " ".join(str(error).split())
            hint = f"{source_set_env()}; make doctor compares torch with torch_npu"
            raise UserError(f"torch_npu cannot be imported: {reason}", hint=hint) from None
        if torch_npu.npu.is_available():
            return "npu"
    return "cuda" if torch.cuda.is_available() else "cpu"


def unused_npu(kind: str) -> Optional[str]:
    """A warning if this machine has an NPU, but the run uses another kind of device; else None."""
    devices = sorted(glob.glob(NPUS))
    if kind == "npu" or not devices:
        return None
    torch_version = torch.__version__.partition("+")[0]
    why, hint = "no NPU is available to torch_npu", "check with npu-smi info and make doctor"
    if not importlib.util.find_spec("torch_npu"):
        why, hint = "torch_npu is not installed", f"{PIP} install torch-npu=={torch_version}"
    return f"WARNING: this run uses the {kind.upper()}, although {devices[0]} exists: {why}; {hint}"


def check_torch() -> None:
    """Raise UserError if torch is too old for training. For the other stages see docs/npu.md."""
    found = torch.__version__.partition("+")[0]
    if tuple(int(part) for part in re.findall("[0-9]+", found)[:2]) < OLDEST_TORCH:
        expected = ".".join(map(str, OLDEST_TORCH)) + " or later"
        hint = "install a newer torch; on an NPU also torch-npu of the same version"
        raise UserError("torch is too old for training", expected=expected, found=found, hint=hint)


def rank_and_world_size() -> tuple[int, int]:
    """RANK and WORLD_SIZE as set by a launcher; without a launcher 0 and 1. Raises UserError for invalid values."""
    if not (os.environ.get("RANK") and os.environ.get("WORLD_SIZE")):
        return 0, 1
    processes = _number("WORLD_SIZE", 1)
    rank = _number("RANK", 0, processes - 1)
    if processes > 1:
        _number("LOCAL_RANK", 0)
        _number("MASTER_PORT", 1, 65535)
        if not os.environ.get("MASTER_ADDR"):
            hint = f"set MASTER_ADDR=<address of the process with RANK=0>, or {UNSET}"
            raise UserError(f"MASTER_ADDR is not set, but WORLD_SIZE={processes}", hint=hint)
    return rank, processes


def _number(name: str, least: int, most: Optional[int] = None) -> int:
    """The integer value of a launcher's environment variable. Raises UserError."""
    text = os.environ.get(name, "0" if name == "LOCAL_RANK" else "")
    expected = f"an integer from {least}" + ("" if most is None else f" to {most}")
    if not (text.isascii() and text.isdigit() and least <= int(text) <= (int(text) if most is None else most)):
        raise UserError(f"invalid environment variable {name}", expected=expected, found=repr(text), hint=UNSET)
    return int(text)


def is_launched() -> bool:
    """Whether this process is one of several that a launcher started."""
    return rank_and_world_size()[1] > 1


def must_launch(processes: int) -> bool:
    """Whether this process must launch the processes of the run (`processes`: --nproc times --nodes). If not, it is the
    only process, or a launcher has started it. Raises UserError if the command line contradicts the environment."""
    given = [f"{name}={os.environ[name]}" for name in ("RANK", "WORLD_SIZE") if os.environ.get(name)]
    started = rank_and_world_size()[1]
    if started > 1 and processes not in (1, started):
        what = f"--nproc times --nodes differs from {' '.join(given)} in the environment"
        raise UserError(what, expected=started, found=processes, hint=f"remove --nproc and --nodes, or {UNSET}")
    if started == 1 and (len(given) == 1 or (given and processes > 1)):
        print(f"{' '.join(given)} in the environment is ignored: --nproc and --nodes are used", file=sys.stderr)
    return started == 1 and processes > 1


@contextlib.contextmanager
def init_distributed(first_device: int) -> Iterator[DistributedContext]:
    """Yield this process's context; a launched process first waits for the others. Process i of a machine
    uses device `first_device` + i."""
    kind = accelerator()
    local = int(os.environ.get("LOCAL_RANK", 0)) if is_launched() else 0
    device = torch.device(kind) if kind == "cpu" else torch.device(kind, first_device + local)
    if kind == "cpu":
        if is_launched() and "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))))
    else:
        count = getattr(torch, kind).device_count()
        if device.index >= count:
            raise UserError("no such --device", expected=f"below {count}, the number of devices", found=device.index)
        getattr(torch, kind).set_device(device)
    float32.compute_exactly()
    if not is_launched():
        yield DistributedContext(0, 1, device)
        return
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _exit_with_launcher()
    _join(BACKENDS[kind])
    try:
        yield DistributedContext(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()


def _join(backend: str) -> None:
    """Connect to the other processes at MASTER_ADDR. Raises UserError if one is missing after WAIT seconds."""
    where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    others = rank_and_world_size()[1] - 1
    line = f"waiting for {others} other process{'es' * (others > 1)} at {where}, at most {WAIT} s"
    report = threading.Timer(REPORT_AFTER, print, [line], {"file": sys.stderr, "flush": True})
    report.daemon = True
    report.start()
    try:
        found = next(distributed.rendezvous("env://", timeout=datetime.timedelta(seconds=WAIT)))
        store, rank, processes = found
        distributed.init_process_group(backend, store=store, rank=rank, world_size=processes)
    except distributed.DistError as error:
        hint = f"start {rank_and_world_size()[1]} processes, RANK=0 to {others}, or {UNSET}"
        raise UserError(f"rendezvous failed: {str(error).splitlines()[0]}", where=where, hint=hint) from None
    finally:
        report.cancel()


def _exit_with_launcher() -> None:
    """Exit when the launcher of this process has ended, for example because it was killed."""
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(POLL)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def launch(module: str, argv: Sequence[str], nproc: int, nodes: int, node: int, addr: str, port: int) -> None:
    """Run `python -m module argv` in `nproc` processes on this machine, the machine number `node` of `nodes`. The first
    process listens at `addr` and `port`. Raises UserError or WorkFailed with the error line of one of the processes. If
    none has such a line, prints the stderr of the first failed process and raises WorkFailed."""
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, Std
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    if node == 0:
        check_port(addr, port)
    if nodes > 1:
        print(
            f"waiting for {plural(nodes - 1, 'other machine')} (--nodes) at {addr}:{port}, at most {WAIT} s",
            file=sys.stderr,
            flush=True,
        )
    logging.disable(logging.CRITICAL)  # of the launcher: _raise_failure reports a failed process in one line
    with tempfile.TemporaryDirectory() as logs:
        settings = LaunchConfig(
            min_nodes=nodes,
            max_nodes=nodes,
            nproc_per_node=nproc,
            run_id="train",
            rdzv_backend="static",
            rdzv_endpoint=f"{addr}:{port}",
            rdzv_configs={"rank": node, "timeout": WAIT},
            max_restarts=0,
            logs_specs=DefaultLogsSpecs(log_dir=logs, redirects=Std.ERR),
        )
        try:
            elastic_launch(settings, sys.executable)("-m", module, *argv)
        except ChildFailedError as error:
            _raise_failure(module, Path(logs), error.get_first_failure()[0])
        except SignalException:
            raise KeyboardInterrupt from None
        except distributed.DistError as error:
            hint = "start all machines with the same --addr and --port, each with a different --dn"
            what = f"rendezvous failed: {str(error).splitlines()[0]}"
            raise UserError(what, where=f"{addr}:{port}", hint=hint) from None
        finally:
            logging.disable(logging.NOTSET)


def check_port(addr: str, port: int) -> None:
    """Raise UserError unless the first process can listen at `addr` and `port`."""
    try:
        with socket.socket() as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((addr, port))
    except (OSError, OverflowError) as error:
        what = f"cannot listen at this address: {getattr(error, 'strerror', None) or error}"
        hint = "if another run uses the port, give another --port, or --addr, to all nodes"
        raise UserError(what, where=f"{addr}:{port}", hint=hint) from None


def _raise_failure(module: str, logs: Path, first: int) -> None:
    """Raise the error line that a process has written to its stderr log; the other processes often fail only because of
    that error. Without an error line, print the stderr of the first process that failed."""
    kinds = {f"{module}: error: ": UserError, f"{module}: failed: ": WorkFailed}
    files = sorted(logs.glob("**/stderr.log"))
    for file in files:
        for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
            for prefix, kind in kinds.items():
                if line.startswith(prefix):
                    raise kind(line[len(prefix) :])
    for file in files:
        if file.parent.name == str(first):
            sys.stderr.write(file.read_text(encoding="utf-8", errors="replace"))
    raise WorkFailed(f"process {first} failed, see above")
