"""python examples/retrain_std_resnet20_cifar10.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_resnet20_cifar10")
