"""What can be wrong with a model or with how it is to be run, as sentences for an operator."""

from __future__ import annotations


class ModelError(Exception):
    """The model cannot be loaded or run as asked. `hint` says the way out, if there is one."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
