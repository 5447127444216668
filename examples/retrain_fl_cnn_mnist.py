"""python examples/retrain_fl_cnn_mnist.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("fl_cnn_mnist")
