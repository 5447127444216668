"""python examples/retrain_fl_mlp_ixor_light.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("fl_mlp_ixor_light")
