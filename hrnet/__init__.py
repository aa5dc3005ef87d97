"""The shared library of the stages: configs, file formats, image maths, nets. It imports no stage, and of the runtimes
only torch, in hrnet/nets.

Every stage imports this package first, so that a missing package, or Ctrl-C while modules are imported, is reported in
one line. After that, `hrnet.cli.command` reports errors.
"""

import os
import signal
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
BOARD = os.path.isfile(os.path.join(ROOT, "bundle.mk"))  # an unpacked bundle of make bundle, which has no make setup
PYTHON_HINT = "give PYTHON=<an interpreter of Python 3.9 or later>"


def how_to_install(program):  # type: ignore[no-untyped-def]
    """How to get the packages of a program; on a board the command from README.md, which make bundle wrote."""
    if not BOARD:
        return "run make setup, or give PYTHON=<an interpreter that has the packages>; make doctor lists them"
    try:
        with open(os.path.join(ROOT, "README.md"), encoding="utf-8") as file:
            commands = [line.partition(" -m pip install ")[2].split() for line in file if " -m pip install " in line]
    except OSError:
        commands = []
    if not commands:
        return "make doctor lists the packages that are missing"
    more = commands[1:] if program.startswith(("serve", "preprocess")) else []  # make serve and make predict
    words = commands[0] + [word for command in more for word in command[2:]]
    return f"{sys.executable} -m pip install {' '.join(words)}; make doctor lists all that is missing"


def report_import(kind, error, trace):  # type: ignore[no-untyped-def]
    """sys.excepthook that reports a missing or broken package, unless it is one of ours, in one line."""
    module = (getattr(error, "name", None) or "").split(".")[0]
    if not isinstance(error, ImportError) or (module and os.path.isdir(os.path.join(ROOT, module))):
        return sys.__excepthook__(kind, error, trace)
    from hrnet.cli import escape_output, program_name

    escape_output()
    name = program_name()
    what = f"{sys.executable}: {' '.join(str(error).split())}"
    print(f"{name}: error: {what}; {how_to_install(name)}", file=sys.stderr)
    raise SystemExit(2)


def exit_during_imports(number, frame):  # type: ignore[no-untyped-def]
    """SIGINT handler during imports: C code that imports modules, as in torch, would lose a KeyboardInterrupt."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else "python"
    os.write(2, f"{name}: interrupted before it started; rerun the same command\n".encode())
    os._exit(130)


if sys.version_info < (3, 9):  # noqa: UP036, since make runs any PYTHON
    version = "{}.{}, expected 3.9 or later".format(*sys.version_info)
    print(f"{sys.executable}: Python {version}; {PYTHON_HINT}", file=sys.stderr)
    sys.exit(2)
if sys.argv[:1] == ["-m"]:  # `python -m <stage>` imports its modules now
    sys.excepthook = report_import
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, exit_during_imports)
