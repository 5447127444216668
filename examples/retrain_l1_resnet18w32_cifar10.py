"""python examples/retrain_l1_resnet18w32_cifar10.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("l1_resnet18w32_cifar10")
