"""python examples/retrain_lsg_fixed_resnet20_cifar10.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("lsg_fixed_resnet20_cifar10")
