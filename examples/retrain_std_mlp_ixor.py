"""python examples/retrain_std_mlp_ixor.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("std_mlp_ixor")
