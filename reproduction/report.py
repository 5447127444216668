"""A folder of tables and figures, with a page that shows them all."""

import csv
import pathlib

import rich


class Report:
    """Figures and tables in a folder, and a `README.md` that shows them.

    Args:
        folder: where to write.
        title: the first line of the README.
        introduction: the lines below it.
    """

    def __init__(self, folder, title, introduction):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.parts = [f"# {title}", introduction]

    def add_figure(self, name, title, figure, caption):
        """Saves a figure; returns the paths of what was written."""
        path = self.folder / f"{name}.png"
        figure.savefig(path, dpi=120)
        self.parts += [f"## {title}", f"![{title}]({path.name})", caption]
        self.write_index()
        return [path]

    def add_table(self, name, title, header, rows, caption):
        """Saves a table as Markdown and CSV, with cells of text, numbers, or None for the unknown; returns the paths."""
        lines = [header, ["---"] * len(header), *[[_cell(value) for value in row] for row in rows]]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        markdown, comma_separated = self.folder / f"{name}.md", self.folder / f"{name}.csv"
        markdown.write_text(f"# {title}\n\n{table}\n\n{caption}\n", encoding="utf-8")
        with comma_separated.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([header, *rows])
        self.parts += [f"## {title}", table, caption]
        self.write_index()
        return [markdown, comma_separated]

    def skip(self, title, reason):
        """Notes that something was left out."""
        rich.get_console().print(f"Left out {title}: {reason}", soft_wrap=True, highlight=False)
        self.parts += [f"## {title}", f"Left out: {reason}"]
        self.write_index()

    def write_index(self):
        """Writes the README as far as it goes, so that an interrupted run leaves one too; returns its path."""
        path = self.folder / "README.md"
        path.write_text("\n\n".join(self.parts) + "\n", encoding="utf-8")
        return path


def _cell(value):
    if value is None:
        return "–"
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
