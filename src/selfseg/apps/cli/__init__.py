"""The command line: thin commands over the public verbs.

Exit code 0 done, 1 some inputs failed, 2 bad usage, 130 stopped by Ctrl-C, 75 stopped by SIGTERM: the same command continues.
"""

import contextlib
import importlib
import io
import os
import sys
import warnings
from collections.abc import Callable, Sequence

COMMANDS = (
    *("look", "segment", "fit", "predict", "distill", "edit", "instances", "cut", "export", "evaluate", "benchmark"),
    *("studio", "methods", "datasets", "doctor", "demo"),
)
"""Each is a file of this package with a function of the same name."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every foreseen error is one line on standard error."""
    tokens = list(sys.argv[1:] if argv is None else argv)
    if not any("json" in word for word in tokens):
        return _main(tokens, _complain)
    from selfseg.apps.cli.app import wants_json, write_event

    if not wants_json(tokens):
        return _main(tokens, _complain)
    code = _main(tokens, lambda message: write_event("error", message=message))
    with contextlib.suppress(OSError):
        write_event("end", exit_code=code)
    return code


Complain = Callable[[str], None]
"""Shows an error or a warning."""


def _main(tokens: list[str], complain: Complain) -> int:
    from selfseg.core.machine import PREEMPTED, Preempted, raising_sigterm

    for stream in (sys.stdout, sys.stderr):  # names of files are bytes, and need not be text
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        with raising_sigterm(), warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: complain(" ".join(str(message).split()))
            return _run(tokens, complain)
    except Preempted:
        complain(
            "stopped by SIGTERM; what is done is saved: give the same command again, to fit and segment with --resume"
        )
        return PREEMPTED
    except KeyboardInterrupt:
        complain("stopped")
        return 130


def _run(tokens: list[str], complain: Complain) -> int:
    from cyclopts import CycloptsError

    from selfseg.apps.cli.app import app
    from selfseg.core.errors import SelfsegError

    for name in tokens[:1] if tokens[:1] and tokens[0] in COMMANDS else COMMANDS:  # one file is enough for one command
        importlib.import_module(f"selfseg.apps.cli.{name}")
    try:
        _check_distributed(tokens)
        code = app(tokens or ["--help"], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        complain(f"{' '.join(str(error).split())} See `selfseg --help`.")
        return 2
    except SelfsegError as error:
        complain(str(error))
        return error.exit_code
    except MemoryError:
        complain("out of memory: expected the images to fit; make them smaller, for example with --prepare size=1000")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:  # whatever no other line was made of
        if error.filename is None:
            raise
        reason = error.strerror or str(error)
        complain(
            f"{error.filename}: expected a file that can be read and written, got {reason}; check its disk, then try again"
        )
        return 1
    return code if isinstance(code, int) else 0


def _check_distributed(tokens: Sequence[str]) -> None:
    """Refuse to do the same in several processes at once, into the same folder."""
    from selfseg.core.errors import UsageError
    from selfseg.core.machine import own_rank

    if own_rank().world > 1 and tokens[:1] != ["fit"]:
        raise UsageError(
            "torchrun",
            expected="selfseg fit",
            got=" ".join(tokens[:1]) or "no command",
            fix="use fit, then the others without torchrun",
        )


def _complain(message: str) -> None:
    from selfseg.core.machine import own_rank

    rank = own_rank()
    who = "selfseg" if rank.world == 1 else f"selfseg, {rank}"
    with contextlib.suppress(OSError):  # a log on a disk that is full; the exit code reports it too
        sys.stderr.write(f"{who}: {message}\n")
