"""Retrains lsg_fixed_resnet20_cifar10 and measures it on the test split.

    python examples/retrain_lsg_fixed_resnet20_cifar10.py --data-dir DIR

Run again after an interruption, it goes on where it stopped. `keras-interp train` and `evaluate` do the same.
"""

import argparse
import json

from keras_interp import zoo

NAME = "lsg_fixed_resnet20_cifar10"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data-dir", help="folder of the prepared data sets; by default TFDS_DATA_DIR")
parser.add_argument("--output", default=f"runs/{NAME}")
parser.add_argument("--strategy", choices=["mirrored"], help="spread each batch over the local GPUs")
arguments = parser.parse_args()

zoo.train(NAME, arguments.data_dir, arguments.output, strategy=arguments.strategy, verbose=1)
print(json.dumps(zoo.evaluate(arguments.output, arguments.data_dir)["values"], indent=1))
