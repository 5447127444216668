"""Shipped files of a model besides its weights: measured figures and the training log."""

import csv
import functools
import statistics

from keras_interp.zoo import artifacts, catalogue
from keras_interp.zoo.artifacts import LOG
from keras_interp.zoo.registry import get_entry


class Measured:
    """The figures of a model, from its `metrics.json`, and the paper's. The weights need not be there.

    Args:
        name: name of the zoo model, or None.
        values: {metric: value} of a model that is not in the zoo.
        published: the paper's figures for a model that is not in the zoo.
    """

    def __init__(self, name=None, values=None, published=None):
        found = (name and artifacts.read_metrics(name)) or {}
        self.entry = name and get_entry(name)
        self.published = self.entry.paper_metrics if name else published
        self.values = values or found.get("values", {})
        self.seeds = found.get("seeds", {}).get("values", {})
        self.examples = found.get("examples")

    def figure(self, metric):
        """The figure of the shipped model, or None."""
        return self.values.get(metric)

    def figures(self, metric):
        """The figures of all seeds, or that of the only one; none where it was not measured."""
        return self.seeds.get(metric) or ([self.values[metric]] if metric in self.values else [])


def spread(figures, digits=4):
    """Mean and standard deviation over seeds, as text; None for fewer than two."""
    if len(figures) < 2:
        return None
    mean, deviation = statistics.fmean(figures), statistics.stdev(figures)
    return f"{mean:,.{digits}f} ± {deviation:,.{digits}f} ({len(figures)} seeds)"


def read_log(name):
    """The log of a shipped model's training, {column: floats, one for each epoch}, or None where none ships.

    A model may ship with its log and without weights. NaN stands for what was not measured in an epoch.

    Raises:
        ArtifactError: for a log that is not the published one.
    """
    folder = artifacts.shipped_root() / name
    if not (folder / LOG).is_file():
        return None
    artifacts.verify(folder, {LOG: artifacts.read_pins().get(name, {}).get(LOG, "")})
    with (folder / LOG).open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {column: [float(row[column] or "nan") for row in rows] for column in rows[0]}


class ShippedReport:
    """The tables and figures of a paper, one method for each: it takes the title, and returns the paths it wrote.

    A paper's subclass names them in `parts`.

    Args:
        data_dir: folder of the prepared datasets.
        report: a `Report` to add to.

    Attributes:
        model: function of a name to the shipped model, which is loaded once.
        data: function of a name, and a split, by default "test", to the model's data, which are loaded once.
    """

    def __init__(self, data_dir, report):
        self.report = report
        self.model = functools.cache(catalogue.load)
        self.data = functools.cache(lambda name, split="test": get_entry(name).load_data(split, data_dir))

    def parts(self):
        """Triples of a title, the names of the models whose weights are needed, and the method."""
        raise NotImplementedError

    def run(self):
        """Writes everything one by one, and skips parts whose requirements are missing.

        Yields:
            The paths of all files, that of the report's README last.
        """
        for title, names, make in self.parts():
            missing = [name for name in names if artifacts.shipped_folder(name) is None]
            if missing:
                self.report.skip(title, f"no weights of {', '.join(missing)} come with this installation.")
                continue
            try:
                paths = make(title)
            except (FileNotFoundError, ImportError) as error:
                # A missing dataset or package affects only the parts that need it.
                self.report.skip(title, str(error))
                continue
            yield from paths
        yield self.report.write_index()
