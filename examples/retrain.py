"""Retrains a zoo model by its recipe and measures it on the test split: what every `retrain_<name>.py` runs.

Run again after an interruption, it goes on where it stopped. `keras-interp train` and `keras-interp evaluate` do the same.
"""

import argparse
import json
import pathlib

from keras_interp import zoo


def retrain(name):
    """Trains and measures the model `name` with the options of the command line."""
    parser = argparse.ArgumentParser(description=f"Retrains {name} and measures it on the test split.")
    parser.add_argument("--data-dir", help="folder of the prepared data sets; by default TFDS_DATA_DIR")
    parser.add_argument("--output", default=f"runs/{name}")
    parser.add_argument("--strategy", choices=["mirrored"], help="spread each batch over the local GPUs (TensorFlow)")
    arguments = parser.parse_args()
    zoo.train(name, arguments.data_dir, arguments.output, strategy=arguments.strategy, verbose=1)
    print(json.dumps(zoo.evaluate(pathlib.Path(arguments.output), arguments.data_dir)["values"], indent=1))
