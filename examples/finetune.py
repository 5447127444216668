"""Fine-tunes a zoo model on other data: a folder of images (one subfolder for each class), or a dataset.

    python examples/finetune.py --images FOLDER --output my_model
    python examples/finetune.py --dataset cifar10 --data-dir DIR --output my_model
    python examples/finetune.py --name fl_mlp_california_housing --dataset my_rows.npz --output my_model

Layers of the same shape keep their trained weights; all others, as the readout of other classes, start from random values. So
does the gate of a label-sensitive classifier. Training goes on with the method's own objective, by the model's own recipe at a
tenth of its learning rate.
"""

import argparse
import dataclasses
import pathlib

import numpy as np

from keras_interp import data, models, zoo
from keras_interp.data.pictures import load_pictures

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
source = parser.add_mutually_exclusive_group(required=True)
source.add_argument("--images", type=pathlib.Path, help="folder with one subfolder of images for each class")
source.add_argument("--dataset", help="name of a dataset in TensorFlow Datasets, or an .npz file")
parser.add_argument("--data-dir", help="folder of the prepared datasets; defaults to TFDS_DATA_DIR")
parser.add_argument("--split", default="train")
parser.add_argument("--name", default="lsg_resnet20_cifar10", help="the zoo model to start from")
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--learning-rate", type=float, help="by default a tenth of the recipe's")
parser.add_argument("--output", default="finetuned")
arguments = parser.parse_args()

trained, recipe = zoo.load(arguments.name), zoo.info(arguments.name).recipe
if isinstance(trained, models.ExplanationModule):
    parser.error(
        "an explanation module explains a trained classifier: fine-tune that (std_mobilenet_cub100), then attach modules to "
        "it as examples/explain_any_classifier.py does"
    )
if arguments.images:
    classes = sorted(path.name for path in arguments.images.iterdir() if path.is_dir())
    files = [path for label in classes for path in sorted((arguments.images / label).iterdir()) if path.name[0] != "."]
    images, found, faults = load_pictures(files, trained.input_shape[1:3], trained.input_shape[-1])
    for message in faults.values():
        print(f"Left out: {message}")
    dataset = data.ArrayDataset(images, [path.parent.name for path in found], classes, str(arguments.images))
elif arguments.dataset.endswith(".npz"):
    dataset = data.load_npz(arguments.dataset, trained.task)
else:
    image_size = trained.input_shape[1:3] if len(trained.input_shape) == 4 else None
    dataset = data.load(arguments.dataset, arguments.split, arguments.data_dir, image_size)
if isinstance(trained, models.XNet) and dataset.attributes is None:
    parser.error("an XNet learns from attributes beside the classes: give a --dataset that has some, as celeb_a_mini")

if dataset.column_names and trained.column_names and set(dataset.column_names) == set(trained.column_names):
    # The trained weights stand for the columns in their order.
    dataset = dataset.select_columns(trained.column_names)
if len(dataset) < 2:
    parser.error("there must be at least two examples, one to train on and one to hold out")

order = np.random.default_rng(0).permutation(len(dataset))
held = max(1, len(order) // 10)
held_out, kept = dataset[order[:held]], dataset[order[held:]]

model = zoo.build(arguments.name, dataset=kept)
fresh = {"logits", "label_sensitive_gate"}
for layer in model.layers:
    if layer.name not in fresh and layer.weights:
        weights = trained.get_layer(layer.name).get_weights()
        if [weight.shape for weight in weights] == [tuple(weight.shape) for weight in layer.weights]:
            layer.set_weights(weights)
if isinstance(model, models.XNet):
    model.orient(kept.targets, kept.attributes)

batch_size = min(recipe.batch_size, len(kept))
augmentation = {"pad": recipe.pad, "flip": recipe.flip} if kept.inputs.ndim == 4 else {}
batches = data.Batches(kept, batch_size, min_positives=recipe.min_positives, **augmentation)
learning_rate = arguments.learning_rate or recipe.learning_rate / 10
recipe = dataclasses.replace(recipe, epochs=arguments.epochs, learning_rate=learning_rate)
model.compile_by_default(recipe.build_optimizer(len(batches)))
if hasattr(model, "gate_layer"):
    # The L1 term alone closes an entry of the gate in 1 / (gate_weight * sparsity_weight * gate_learning_rate) steps; let it
    # do so within a quarter of the training.
    model.gate_learning_rate = 4 / (arguments.epochs * len(batches) * model.gate_weight * model.sparsity_weight)
model.fit(
    batches,
    epochs=arguments.epochs,
    validation_data=data.Batches(held_out, batch_size, shuffle=False),
    shuffle=False,
)
# The golden inputs show, that the model works, wherever it travels.
zoo.save(model, arguments.output, golden_inputs=held_out.inputs[:8])
print(f"Wrote {arguments.output}; load it with zoo.load({arguments.output!r})")
