"""python examples/retrain_std_alexnet_cifar10.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_alexnet_cifar10")
