"""Measures zoo models on the test split of their dataset: the source of every figure in `metrics.json`."""

import os
import pathlib
from typing import Any

from keras_interp import metrics
from keras_interp.data import load_npz
from keras_interp.typing import PathLike
from keras_interp.zoo import catalogue
from keras_interp.zoo.registry import get_entry


def evaluate(name: str | pathlib.Path, data_dir: PathLike | None = None, dataset: Any = None) -> dict[str, Any]:
    """Measures a model on the test split of its dataset.

    Args:
        name: name of a zoo model, or a folder of one, whose provenance names the entry.
        data_dir: folder of the prepared datasets, see `data.load`.
        dataset: an `ArrayDataset` to measure on instead, or the path of an `.npz` file of one.

    Returns:
        A dict: `split`, `examples`, `seed`, `values` {metric: value} and `definitions` {metric: sentence}.

    Raises:
        ValueError: for a dataset whose class names differ from the model's.
    """
    metrics.require_evaluation_extra()
    model = catalogue.load(name)
    entry = get_entry(model.name).of_model(model)
    if isinstance(dataset, (str, os.PathLike)):
        dataset = load_npz(dataset, entry.task)
    dataset = dataset or entry.load_data("test", data_dir)
    if dataset.column_names and model.column_names:
        dataset = dataset.select_columns(model.column_names)
    # Indices refer to the outputs in order; a file may lack examples of the last ones.
    numbered = tuple(map(str, range(len(model.class_names))))[: len(dataset.class_names)]
    if entry.task == "classification" and tuple(dataset.class_names) not in (tuple(model.class_names), numbered):
        raise ValueError(f"The dataset's classes must be {model.class_names}. Received: {tuple(dataset.class_names)}")
    values = entry.measure(model, dataset, data_dir)
    return {
        "split": dataset.name,
        "examples": len(dataset),
        "seed": 0,
        "values": values,
        "definitions": {metric: entry.definitions[metric] for metric in values},
    }
