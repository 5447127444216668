"""For maintainers: takes a trained model into the checkout's zoo, measured, with its card, picture and pins.

    python -m keras_interp.zoo.release NAME FOLDER [--data-dir DIR]

FOLDER is what `keras-interp train NAME` wrote. Without it, the shipped model is measured anew.
"""

import argparse
import json
import pathlib
import shutil

import numpy as np

from keras_interp.zoo import artifacts, cards, evaluation, hub
from keras_interp.zoo.registry import get_entry
from keras_interp.zoo.reproduction.lsg import GATE
from keras_interp.zoo.training import LOG

ROOT = pathlib.Path(__file__).parents[2]


def release_gate(name, folder):
    """Takes only the gate matrix and the log of a trained model into the checkout, for the figures that need no more."""
    target = ROOT / "zoo" / name
    target.mkdir(parents=True, exist_ok=True)
    np.save(target / GATE, hub.load(pathlib.Path(folder)).gate)
    shutil.copyfile(pathlib.Path(folder) / LOG, target / LOG)
    artifacts.pin(name, target)


def release(name, folder=None, data_dir=None):
    """Measures a trained model on the test split and writes its artifact, card and pins into the checkout.

    Args:
        name: name of the zoo model.
        folder: folder that `train` wrote, or None for the artifact in the checkout.
        data_dir: folder of the prepared data sets.
    """
    entry = get_entry(name)
    target = ROOT / "zoo" / name
    if folder is not None:
        target.mkdir(parents=True, exist_ok=True)
        for file in (artifacts.CONFIG, artifacts.METADATA, artifacts.WEIGHTS, artifacts.GOLDEN, LOG):
            shutil.copyfile(pathlib.Path(folder) / file, target / file)
    test = entry.load_data("test", data_dir)
    metrics = evaluation.evaluate(target, dataset=test)
    (target / artifacts.METRICS).write_text(json.dumps(metrics, indent=1) + "\n")
    model = hub.load(target)
    examples = np.array([np.flatnonzero(test.targets == number)[0] for number in range(4)])
    model.explain(test.inputs[examples]).plot(path=target / cards.EXPLANATION)
    cards.write_card(name, target)
    artifacts.pin(name, target)
    cards.update_readme(ROOT / "README.md")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name")
    parser.add_argument("folder", nargs="?")
    parser.add_argument("--data-dir")
    parser.add_argument("--gate-only", action="store_true", help="ship the gate matrix and the log, no weights")
    options = parser.parse_args()
    if options.gate_only:
        release_gate(options.name, options.folder)
    else:
        release(options.name, options.folder, options.data_dir)
