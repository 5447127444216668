"""The command line that the scripts `retrain_<method>.py` share."""

import argparse
import pathlib

from keras_interp import zoo
from keras_interp.zoo.registry import ENTRIES


def parse_arguments(description, paper):
    """The arguments of a script that trains the models of one paper.

    Args:
        description: docstring of the script.
        paper: key of the paper.

    Returns:
        A namespace: `name`, `data_dir`, `output`; `changes`, the fields of the recipe that were given; and `backup`, a folder
        for checkpoints of a run with these changes.
    """
    names = [name for name, entry in ENTRIES.items() if entry.paper.key == paper]
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        description=description, epilog="Models:\n  " + "\n  ".join(names), formatter_class=formatter
    )
    parser.add_argument("name", choices=names, metavar="NAME", help="the model, one of those below")
    parser.add_argument("--data-dir", help="folder of the prepared datasets; defaults to TFDS_DATA_DIR")
    parser.add_argument("--output", type=pathlib.Path, help="folder of the trained model; by default runs/NAME")
    parser.add_argument("--epochs", type=int, help="by default those of the recipe")
    parser.add_argument("--seed", type=int, help="seed of initial weights, order and augmentation; by default the recipe's")
    arguments = parser.parse_args()
    if arguments.epochs is not None and arguments.epochs < 1:
        parser.error(f"--epochs must be at least 1. Received: {arguments.epochs}")
    changes = {"epochs": arguments.epochs, "seed": arguments.seed}
    arguments.changes = {field: value for field, value in changes.items() if value is not None}
    arguments.output = arguments.output or pathlib.Path("runs") / arguments.name
    # A run with other settings must not continue this one, so each has its own folder.
    parts = [f"{field}_{value}" for field, value in arguments.changes.items()]
    arguments.backup = arguments.output / "-".join(["resume", *parts])
    return arguments


def print_figures(arguments):
    """Measures the saved model on the test split and prints each figure next to that of the shipped model.

    They differ a little between machines and backends, which round differently; and some shipped weights are float16.
    """
    shipped = zoo.info(arguments.name).metrics
    print(f"{'metric':50} {'retrained':>12} {'shipped':>12}")
    for metric, value in zoo.evaluate(arguments.output, arguments.data_dir)["values"].items():
        print(f"{metric:50} {value:12.6g} {shipped.get(metric, float('nan')):12.6g}")
