"""Names in classes that grow together."""


class Partition:
    """A union-find over names; each starts in a class of its own."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for a name's class."""
        while (parent := self._parent.setdefault(name, name)) != name:
            self._parent[name] = self._parent[parent]
            name = parent
        return name

    def unite(self, a: str, b: str) -> None:
        """Makes one class of two."""
        self._parent[self.find(a)] = self.find(b)
