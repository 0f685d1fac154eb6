"""The errors that graphopt raises: one tree, each naming the place and the remedy."""


class Error(Exception):
    """Base of every error that graphopt raises on purpose.

    `what` says the cause, `where` the node or source line, `remedy` what the caller can do.
    """

    def __init__(self, what: str, *, remedy: str = "", where: str = "") -> None:
        self.what = what
        self.remedy = remedy
        self.where = where
        lines = [what]
        if where:
            lines.append(f"  at: {where}")
        if remedy:
            lines.append(f"  remedy: {remedy}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (type(self), self.what, self.remedy, self.where)


def _rebuild(kind: type[Error], what: str, remedy: str, where: str) -> Error:
    return kind(what, remedy=remedy, where=where)


class Unsupported(Error):
    """The program cannot be kept exactly, so it is refused (torch.export's refusals included)."""


class ExampleRaises(Unsupported):
    """The example call itself raises: its arguments do not fit the model."""


class GuardError(Error):
    """A call does not satisfy what was assumed at capture, and `on_guard="error"` was asked for."""


class BranchError(GuardError):
    """A branch that the graph itself asks fell otherwise than at capture; the call had no effect."""


class NotEquivalent(Error):
    """Two programs that were to compute the same do not."""


class PassError(Error):
    """A pass is unknown, raised, or left an invalid graph behind."""


class InvalidGraph(Error):
    """A graph breaks an invariant of the IR; the message names the node."""
