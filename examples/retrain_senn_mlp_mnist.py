"""python examples/retrain_senn_mlp_mnist.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("senn_mlp_mnist")
