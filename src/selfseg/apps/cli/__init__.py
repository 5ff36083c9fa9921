"""The command line: thin commands over the pipeline.

Exit code 0 done, 1 some inputs failed, 2 bad usage, 130 stopped by Ctrl-C, 75 stopped by SIGTERM: the same command goes on.
"""

import contextlib
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; every foreseen error is one line on standard error."""
    from selfseg.core.stopping import PREEMPTED, Preempted, raising_sigterm

    try:
        with raising_sigterm():
            return _run(list(sys.argv[1:] if argv is None else argv))
    except Preempted:
        _complain(
            "stopped by SIGTERM; what is done is saved: give the same command again, to fit and segment with --resume"
        )
        return PREEMPTED
    except KeyboardInterrupt:
        _complain("stopped")
        return 130


def _run(tokens: list[str]) -> int:
    from cyclopts import CycloptsError

    # each adds its commands to the application, and this is their order in the help
    from selfseg.apps.cli import commands, distilling, editing, exporting, learning, measuring, studio  # noqa: F401
    from selfseg.apps.cli.parameters import app
    from selfseg.core.errors import SelfsegError

    try:
        _check_alone(tokens)
        code = app(tokens or ["--help"], exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        _complain(f"{' '.join(str(error).split())} See `selfseg --help`.")
        return 2
    except SelfsegError as error:
        _complain(str(error))
        return error.exit_code
    except MemoryError:
        _complain("out of memory: expected the images to fit; make them smaller, for example with --prepare size=1000")
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


def _check_alone(tokens: Sequence[str]) -> None:
    """Refuse to do the same in several processes at once, into the same folder."""
    from selfseg.core.errors import UsageError
    from selfseg.core.processes import own_rank

    if own_rank().world > 1 and tokens[:1] != ["fit"]:
        got, fix = " ".join(tokens[:1]) or "no command", "use fit, then the others without torchrun"
        raise UsageError("torchrun", expected="selfseg fit", got=got, fix=fix)


def _complain(message: str) -> None:
    from selfseg.core.processes import own_rank

    place = own_rank()
    who = "selfseg" if place.world == 1 else f"selfseg, {place}"
    with contextlib.suppress(OSError):  # a log on a disk that is full; the exit code says it too
        sys.stderr.write(f"{who}: {message}\n")
