"""A model that could not be run is one exception with one sentence: the runtime's own, the signal, or the timeout."""

from __future__ import annotations

__all__ = ["RunFailed"]


class RunFailed(Exception):
    """The model could not be loaded or run; `reason` is one line that says why.

    It is internal: the passes that run models turn it into the error or the refusal that fits.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
