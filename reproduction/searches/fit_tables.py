"""The search behind the defaults of `keras-interp fit` for tables; its table is `fit_tables.csv` beside it.

    python -m reproduction.searches.fit_tables adult.csv:Salary housing.csv:median_house_value

Of each table the held-out part of `fit`, seed 1, is never looked at: a fifth of the training part is held out once more.
"""

import csv
import dataclasses
import itertools
import pathlib
import sys
import time

import keras

from keras_interp import data
from keras_interp.zoo import own

GRID = {"learning_rate": (1e-3, 3e-3), "epochs": (10, 30), "l0_weight": (0.005, 0.02, 0.1)}
TABLE = pathlib.Path(__file__).with_suffix(".csv")


def measure(training, validation, learning_rate, epochs, l0_weight):
    """What one setting gives on the validation part."""
    entry = own._table_entry(training, "fl")
    entry = dataclasses.replace(entry, options={"l0_weight": l0_weight})
    recipe = dataclasses.replace(entry.recipe, learning_rate=learning_rate, epochs=epochs)
    keras.utils.set_random_seed(recipe.seed)
    model = entry.build(dataset=training)
    batches = data.Batches(training, own._batch_size(entry, training), seed=recipe.seed)
    model.compile_by_default(recipe.build_optimizer(len(batches)))
    model.fit(batches, epochs=epochs, shuffle=False, verbose=0)
    return own.measure(model, validation)


def main(tables):
    rows = []
    for path, target in (table.split(":") for table in tables):
        whole, _ = own._read_table(pathlib.Path(path), target, 0.2, 1)
        kept, rest = data.stratified_split(whole.targets, 0.2, 2, whole.class_names)
        training, validation = whole[kept], whole[rest]
        for setting in itertools.product(*GRID.values()):
            options = dict(zip(GRID, setting))
            start = time.time()
            found = {metric: f"{value:.5g}" for metric, value in measure(training, validation, **options).items()}
            rows.append({"table": pathlib.Path(path).name, **options, **found, "seconds": f"{time.time() - start:.0f}"})
            print(rows[-1], flush=True)
            with TABLE.open("w", newline="") as file:
                writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)))
                writer.writeheader()
                writer.writerows(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
