"""python examples/retrain_xnet_resnet18w32_celeb_a_mini.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("xnet_resnet18w32_celeb_a_mini")
