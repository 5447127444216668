"""Figures of the site, taken from `zoo/*/metrics.json` when it is built: none is typed by hand. A hook of MkDocs.

In a page, `{{ NAME.METRIC }}` is one figure, and `<!-- figures: NAMES | METRICS -->` a table with the paper's figures and
definitions. Links to `zoo/NAME/explanation.png` work on the site as they do in the repository. `results.md` has all tables.
"""

import json
import os
import pathlib
import re
import statistics
import sys

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = pathlib.Path(__file__).resolve().parents[1]
# The site documents this checkout, not what may be installed; the notebook's kernel inherits the path.
sys.path.insert(0, str(ROOT))
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

FIGURE = re.compile(r"\{\{ (\w+)\.([\w.]+) \}\}")
TABLE = re.compile(r"<!-- figures: ([\w, ]+) \| ([\w, .]+) -->")
PICTURE = re.compile(r"\((?:\.\./)+zoo/(\w+)/explanation\.png\)")
METHODS = "Methods"


class Measured:
    """Figures of one model: `metrics.json`, and the facts of the registry."""

    def __init__(self, name):
        from keras_interp import zoo

        path = ROOT / "zoo" / name / "metrics.json"
        if not path.is_file():
            raise PluginError(f"There is no {path.relative_to(ROOT)}")
        content = json.loads(path.read_text(encoding="utf-8"))
        self.name, self.values, self.definitions = name, content["values"], content["definitions"]
        self.split, self.examples = content["split"], content["examples"]
        seeds = content.get("seeds") or {}
        self.seeds, self.of_seeds = seeds.get("seeds", ()), seeds.get("values", {})
        self.info = zoo.info(name)
        self.paper = self.info.paper_metrics
        self.has_weights = (path.parent / "model.weights.h5").is_file()

    def figure(self, metric):
        if self.values.get(metric) is None:
            raise PluginError(f"{self.name} has no {metric}; it has {', '.join(self.values)}")
        return number(self.values[metric])

    def cell(self, metric):
        """The figure; mean and standard deviation over the seeds where there are several; the paper's in brackets."""
        if self.values.get(metric) is None:
            text = ""
        elif len(self.of_seeds.get(metric, ())) > 1:
            text = self.over_seeds(metric)
        else:
            text = number(self.values[metric])
        return f"{text} ({number(self.paper[metric])})".strip() if metric in self.paper else text

    def over_seeds(self, metric):
        values = self.of_seeds.get(metric, ())
        if len(values) < 2:
            return ""
        return f"{number(statistics.mean(values), False)} ± {number(statistics.stdev(values), False)}"


def number(value, whole=True):
    if whole and float(value).is_integer() and abs(value) > 1:
        return f"{int(value):,}"
    return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4f}"


def table(header, rows):
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in (header, ["---"] * len(header), *rows))


def chosen_figures(match):
    """The table of some metrics of some models, a row for each metric."""
    models = [Measured(name.strip()) for name in match[1].split(",")]
    rows = []
    for metric in (metric.strip() for metric in match[2].split(",")):
        definition = next((model.definitions[metric] for model in models if metric in model.definitions), None)
        if definition is None:
            raise PluginError(f"None of {match[1]} has {metric}")
        rows.append([f"`{metric}`", *(model.cell(metric) for model in models), definition])
    header = ["metric", *(f"`{model.name}`" for model in models), "what it is"]
    return table(header, rows) + "\n\nIn parentheses: the paper's figure, for its own setting."


def results():
    """The page of all tables."""
    names = sorted(path.parent.name for path in (ROOT / "zoo").glob("*/metrics.json"))
    models = [Measured(name) for name in names]
    papers = {model.info.paper.key: model.info.paper for model in models}
    lines = [
        "# Results",
        "Every table on this page is generated from the `metrics.json` of the models when the site is built. "
        "Figures are those of the last epoch on the test split; the paper's figure stands in parentheses and belongs to the "
        "paper's own setting, which is often larger than ours. `±` is a standard deviation over runs with different seeds. "
        "Rows without weights were measured and then dropped; `keras-interp train NAME` retrains them.",
        "Explanation modules are a special case: they train on part of the test images of the species that they explain, and "
        "are measured on the rest; `srae_mobilenet_cub100` was measured four times while it was being developed.",
    ]
    for paper in papers.values():
        own = [model for model in models if model.info.paper.key == paper.key]
        header = ["model", "weights shipped", "parameters", "epochs", *paper.headline.values()]
        rows = [
            [
                f"`{model.name}`",
                "yes" if model.has_weights else "no",
                number(model.info.parameters) if model.info.parameters else "",
                model.info.recipe.epochs,
                *(model.cell(metric) for metric in paper.headline),
            ]
            for model in own
        ]
        lines += [f"## {paper.title}", f"{paper.authors}. {paper.training}", table(header, rows)]
        for model in own:
            columns = ["metric", "measured", *(["over seeds"] if model.seeds else []), "paper", "what it is"]
            body = [
                [
                    f"`{metric}`",
                    number(value),
                    *([model.over_seeds(metric)] if model.seeds else []),
                    number(model.paper[metric]) if metric in model.paper else "",
                    model.definitions.get(metric, ""),
                ]
                for metric, value in model.values.items()
                if value is not None
            ]
            text = f"{model.info.description} Measured on {model.split}, {model.examples:,} examples."
            if model.seeds:
                text += f" Seeds {', '.join(map(str, model.seeds))}; the first is shipped."
            inner = f"{text}\n\n{table(columns, body)}"
            lines.append(f'??? note "{model.name}"\n\n' + "\n".join(f"    {line}".rstrip() for line in inner.splitlines()))
    return "\n\n".join(lines) + "\n"


def on_config(config):
    """Adds pages of methods that the navigation does not name, so that a new method is one new page."""
    section = next(item[METHODS] for item in config.nav if METHODS in item)
    listed = {page for item in section for page in (item.values() if isinstance(item, dict) else [item])}
    folder = pathlib.Path(config.docs_dir)
    section += sorted(
        str(path.relative_to(folder)) for path in folder.glob("methods/*.md") if str(path.relative_to(folder)) not in listed
    )
    return config


def on_files(files, config):
    files.append(File.generated(config, "results.md", content=results()))
    for path in sorted((ROOT / "zoo").glob("*/explanation.png")):
        files.append(File.generated(config, f"images/{path.parent.name}.png", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown, page, config, files):
    up = "../" * page.file.src_uri.count("/")
    markdown = PICTURE.sub(lambda match: f"({up}images/{match[1]}.png)", markdown)
    markdown = TABLE.sub(chosen_figures, markdown)
    return FIGURE.sub(lambda match: Measured(match[1]).figure(match[2]), markdown)
