"""python examples/retrain_dynk5_resnet18w32_places_mini.py --data-dir DIR [--output FOLDER] [--strategy mirrored]"""

from retrain import retrain

retrain("dynk5_resnet18w32_places_mini")
