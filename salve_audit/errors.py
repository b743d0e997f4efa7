"""The errors a user can meet.

::

    SalveError                 exit code 2; carries what, why and an optional hint
    ├── UsageError             an option or configuration value is wrong
    │   └── ArrayError         arrays do not fit each other; a ValueError, too
    ├── CheckpointError        the model file cannot be read or does not fit its architecture
    │   ├── HeadError          no final linear layer could be found and verified
    │   └── DeepEditError      no edit of the layers before the head is known for this network, or for this feature
    ├── LayerError             the network has no spatial layer, or the named layer is not one
    ├── DataError              the images or labels cannot be used
    ├── CacheError             cached activations are damaged or do not belong to these inputs
    ├── OutputError            a result cannot be written (folder, permissions, disk full)
    ├── ResultError            audit.json cannot be read or does not fit its schema
    └── NothingMeasuredError   the audit ran, but nothing trustworthy came out of it

Everything else that escapes is a defect of the tool; the command line reports it as such, with exit code 2.
"""

from __future__ import annotations


class SalveError(Exception):
    """Base of all errors meant for the user.

    Args:
        what: what is wrong, starting with the file or option it concerns, for instance ``model.pt``.
        why: the cause in a few words. The message is ``<what>: <why>``.
        hint: what to do about it, or None.

    >>> import salve_audit
    >>> try:
    ...     salve_audit.load_audit("gone")
    ... except salve_audit.SalveError as error:
    ...     print(error.what, "-", error.why, "-", error.exit_code)
    gone - No such file or directory - 2
    """

    exit_code = 2

    def __init__(self, what: str, why: str = "", hint: str | None = None) -> None:
        self.what = what
        self.why = why
        self.hint = hint
        super().__init__(f"{what}: {why}" if why else what)


class UsageError(SalveError):
    """An option or configuration value is wrong."""


class ArrayError(UsageError, ValueError):
    """Arrays that were handed over do not fit each other, or hold what they must not."""


class CheckpointError(SalveError):
    """The model file cannot be read or does not fit its architecture."""


class HeadError(CheckpointError):
    """No final linear layer could be found and verified."""


class DeepEditError(CheckpointError):
    """No edit of the layers before the head is known for this network, or for this feature."""


class LayerError(SalveError):
    """The network has no spatial layer, or the named layer is not one."""


class DataError(SalveError):
    """The images or labels cannot be used."""


class CacheError(SalveError):
    """Cached activations are damaged or do not belong to these inputs."""


class OutputError(SalveError):
    """A result cannot be written."""


class ResultError(SalveError):
    """An audit.json cannot be read or does not fit its schema."""


class NothingMeasuredError(SalveError):
    """The audit ran, but nothing trustworthy came out of it."""
