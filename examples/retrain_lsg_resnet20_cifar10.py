"""python examples/retrain_lsg_resnet20_cifar10.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("lsg_resnet20_cifar10")
