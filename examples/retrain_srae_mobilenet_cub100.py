"""python examples/retrain_srae_mobilenet_cub100.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("srae_mobilenet_cub100")
