"""Why an archive is refused, and where inside it."""

from __future__ import annotations


class Refusal(Exception):
    """Something in an archive that is not on an allow-list.

    It never reaches the caller: `load_program` turns it into `Unsupported`, with the file's name.
    """

    def __init__(self, reason: str, where: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.where = where

    def within(self, place: str) -> Refusal:
        """The same refusal seen from one level further out: `[3].name` in `.nodes[3].name`."""
        return Refusal(self.reason, place + self.where)
