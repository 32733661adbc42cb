"""What a run has found, as a table."""

from collections.abc import Iterable, Sequence

from utils.style import number


class Markup:
    """Markdown that a notebook renders."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text

    def _repr_markdown_(self) -> str:
        return self.text


class Table:
    """Rows under named columns, which a notebook shows as a table and a terminal as aligned text."""

    def __init__(self, columns: Sequence[str], rows: Iterable[Sequence[object]]):
        self.columns = tuple(columns)
        if not all(self.columns):
            raise ValueError(f"expected a name for every column, got {self.columns}")
        self.rows = [[_cell(value) for value in row] for row in rows]
        if wrong := [row for row in self.rows if len(row) != len(self.columns)]:
            raise ValueError(f"expected {len(self.columns)} cells a row, got {wrong[0]}")

    def __repr__(self) -> str:
        lines = [self.columns, *self.rows]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        padded = ("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
        return "\n".join(line.rstrip() for line in padded)

    @property
    def markdown(self) -> str:
        """The table in Markdown; cells may hold Markdown of their own."""
        lines = [self.columns, ["---"] * len(self.columns), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)

    def _repr_markdown_(self) -> str:
        return self.markdown


def table(*columns: str, rows: Iterable[Sequence[object]]) -> Table:
    """Show rows as a table. Raises ValueError where a column has no name, or a row not one cell a column.

    >>> table("network", "steps", rows=[("plain", 120.0), ("BN", 15.5)])
    network  steps
    plain    120
    BN       15.5
    """
    return Table(columns, rows)


def _cell(value: object) -> str:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)
