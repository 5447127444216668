"""python examples/retrain_senn_mlp_cifar10_cat_deer.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("senn_mlp_cifar10_cat_deer")
