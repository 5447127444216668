"""python examples/retrain_xnet_resnet18_celeb_a.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("xnet_resnet18_celeb_a")
