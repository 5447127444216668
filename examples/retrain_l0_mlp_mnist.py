"""python examples/retrain_l0_mlp_mnist.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("l0_mlp_mnist")
