"""Publishes a model on the Hugging Face Hub, and loads it from there again.

    hf auth login
    python examples/publish.py MODEL you/my-model --license mit

MODEL is a folder that `zoo.save` or `keras-interp train` wrote, or the name of a zoo model.
"""

import argparse

import numpy as np

from keras_interp import zoo
from keras_interp.zoo import artifacts

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("model")
parser.add_argument("repository")
parser.add_argument("--license", help="license of the weights, needed for models from outside the zoo")
parser.add_argument("--public", action="store_true", help="for everybody to see; by default a new repository is private")
arguments = parser.parse_args()

published = zoo.publish(arguments.model, arguments.repository, private=not arguments.public, license=arguments.license)
print(f"Published {published.url}")
for name, sha256 in published.sha256.items():
    print(f"  {sha256[:12]}  {name}")

(folder,) = zoo.download(str(published.reference), "downloaded")
model = zoo.load(folder)
with np.load(folder / artifacts.GOLDEN) as golden:
    model.explain(golden["inputs"]).plot(path="explanation.png")
print("Loaded it again, and explained its golden inputs in explanation.png")
print(f'Others load it with zoo.load("{published.reference}")')
