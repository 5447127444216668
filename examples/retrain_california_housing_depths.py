"""The depth probe: networks of 2 to 5 hidden layers, plain and with leveled features (appendix A.6 of the paper).

python examples/retrain_california_housing_depths.py --data-dir DIR [--output FOLDER]
"""

import argparse
import pathlib

from keras_interp import zoo

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--data-dir", help="folder of the prepared data sets; by default TFDS_DATA_DIR")
parser.add_argument("--output", type=pathlib.Path, default="runs")
arguments = parser.parse_args()

for name in zoo.list_models("*_california_housing_depth*"):
    folder = arguments.output / name
    zoo.train(name, arguments.data_dir, folder, verbose=0)
    values = zoo.evaluate(folder, arguments.data_dir)["values"]
    print(f"{name}: RMSE {values['rmse']:.4f}, {values['hidden_layers']} hidden layers, {values['parameters']:,} parameters")
