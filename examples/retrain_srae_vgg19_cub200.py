"""python examples/retrain_srae_vgg19_cub200.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("srae_vgg19_cub200")
