"""python examples/retrain_fl_mlp_california_housing.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("fl_mlp_california_housing")
