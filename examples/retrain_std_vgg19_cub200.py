"""python examples/retrain_std_vgg19_cub200.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_vgg19_cub200")
