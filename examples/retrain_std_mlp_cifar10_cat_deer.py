"""python examples/retrain_std_mlp_cifar10_cat_deer.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_mlp_cifar10_cat_deer")
