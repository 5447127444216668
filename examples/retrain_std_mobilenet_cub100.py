"""python examples/retrain_std_mobilenet_cub100.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_mobilenet_cub100")
