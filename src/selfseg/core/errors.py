"""Errors that a user can act on: one line with what was expected, what came, and what to do."""

Failure = tuple[str, str]
"""Name of an input, and one line that describes the error."""


class SelfsegError(Exception):
    """Base of every error that is shown to a user as one line, without a traceback.

    Parameters
    ----------
    source
        The thing at fault, usually a path or the name of an option; or the whole line, if nothing else is given.
    expected, got, fix
        What was expected, what came, and what to do: short phrases without a final full stop. Line breaks are folded.
    """

    exit_code = 1

    def __init__(
        self, source: object, *, expected: str | None = None, got: str | None = None, fix: str | None = None
    ) -> None:
        line = str(source) if expected is None else f"{source}: expected {expected}, got {got}; {fix}"
        super().__init__(" ".join(line.split()))


class InputError(SelfsegError):
    """An input (image, annotation, mask) cannot be read or used. The other inputs are still processed."""


class OutputError(SelfsegError):
    """An output cannot be written: unwritable folder, full disk."""


class ModelError(SelfsegError):
    """A model folder or a checkpoint is damaged, foreign or too new."""


class UsageError(SelfsegError):
    """An option, a configuration value or a call is wrong; nothing was started."""

    exit_code = 2


class TrainingError(SelfsegError):
    """Training cannot continue: a loss is not finite, or the memory does not suffice."""


class Interrupted(SelfsegError):
    """Training was stopped by the user; the message describes how to continue."""

    exit_code = 130
