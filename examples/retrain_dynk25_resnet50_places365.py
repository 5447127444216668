"""python examples/retrain_dynk25_resnet50_places365.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("dynk25_resnet50_places365")
