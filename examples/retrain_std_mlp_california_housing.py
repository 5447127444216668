"""python examples/retrain_std_mlp_california_housing.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_mlp_california_housing")
