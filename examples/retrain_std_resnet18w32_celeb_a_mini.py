"""python examples/retrain_std_resnet18w32_celeb_a_mini.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_resnet18w32_celeb_a_mini")
