"""Names in classes that grow together."""


class Partition:
    """A union-find over names; each starts in a class of its own."""

    def __init__(self) -> None:
        self._parent: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The name that stands for a name's class."""
        known = self._parent
        parent = known.get(name, name)
        while (above := known.get(parent, parent)) != parent:
            known[name] = above
            name, parent = parent, above
        return parent

    def unite(self, a: str, b: str) -> None:
        """Makes one class of two."""
        self._parent[self.find(a)] = self.find(b)
