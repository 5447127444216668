"""python examples/retrain_dynk5_resnet18_places365.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("dynk5_resnet18_places365")
