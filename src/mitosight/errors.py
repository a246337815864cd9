"""Errors that a user can mend; the command line prints them as one line, without a traceback."""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """Data that cannot be used: says which file, what was found, what is accepted. Exit status 1."""

    exit_status = 1

    def __init__(self, path: str | Path | None, found: str, remedy: str = "") -> None:
        """`found` says what is wrong; `remedy` what is accepted or how to mend it."""
        where = f"{path}: " if path is not None else ""
        self.path, self.found, self.remedy = path, found, remedy
        super().__init__(where + found + (f"; {remedy}" if remedy else ""))

    def __reduce__(self) -> tuple[type[InputError], tuple[str | Path | None, str, str]]:
        """So that it comes whole out of another process."""
        return type(self), (self.path, self.found, self.remedy)


class UsageError(InputError):
    """A command, recipe or argument that is wrong in itself. Exit status 2."""

    exit_status = 2
