"""Tables for the terminal and for `docs/log.md`."""

from collections.abc import Mapping, Sequence


def table(rows: Sequence[Mapping[str, object]]) -> str:
    """Rows of column → text as Markdown; a column is there if any row has it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    head = ["| " + " | ".join(names) + " |", "|" + " --- |" * len(names)]
    return "\n".join(
        [*head, *("| " + " | ".join(str(row.get(name, "")) for name in names) + " |" for row in rows)]
    )
