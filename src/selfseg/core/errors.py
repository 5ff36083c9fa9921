"""Errors that a user can act on: one line that says what was expected, what came, and what to do."""


class SelfsegError(Exception):
    """Base of every error that is shown to a user as one line, without a traceback."""

    exit_code = 1


class InputError(SelfsegError):
    """An input (image, hint, mask) cannot be read or used. The other inputs are still processed."""


class OutputError(SelfsegError):
    """An output cannot be written: unwritable folder, full disk."""


class ModelError(SelfsegError):
    """A model folder or a checkpoint is damaged, foreign or too new."""


class UsageError(SelfsegError):
    """An option, a configuration value or a call is wrong; nothing was started."""

    exit_code = 2


class TrainingError(SelfsegError):
    """Training cannot go on: a loss is not finite, or the memory does not suffice."""


class Interrupted(SelfsegError):
    """Training was stopped by the user; the message says how to go on."""

    exit_code = 130


def explain(what: str, *, expected: str, got: str, fix: str) -> str:
    """Compose the one line of an error: what, what was expected, what came, what to do.

    Parameters
    ----------
    what
        The thing at fault, usually a path or the name of an option.
    expected, got, fix
        Short phrases without a final full stop.

    Returns
    -------
    str
        A single line; line breaks inside the parts are folded.
    """
    line = f"{what}: expected {expected}, got {got}; {fix}"
    return " ".join(line.split())
