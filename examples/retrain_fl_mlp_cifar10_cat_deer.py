"""python examples/retrain_fl_mlp_cifar10_cat_deer.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("fl_mlp_cifar10_cat_deer")
