"""Fine-tunes a zoo model on other classes: a folder of images (one subfolder for each class) or a TFDS data set.

    python examples/finetune.py --images FOLDER --output my_model
    python examples/finetune.py --dataset cifar10 --data-dir DIR --output my_model

The backbone keeps its trained weights; the head and the gate start anew. Training goes on with the method's own objective.
"""

import argparse

import keras
import numpy as np

from keras_interp import data, zoo

parser = argparse.ArgumentParser(description=__doc__)
source = parser.add_mutually_exclusive_group(required=True)
source.add_argument("--images", help="folder with one subfolder of images for each class")
source.add_argument("--dataset", help="name of a data set in TensorFlow Datasets, or an .npz file")
parser.add_argument("--data-dir", help="folder of the prepared data sets; by default TFDS_DATA_DIR")
parser.add_argument("--split", default="train")
parser.add_argument("--name", default="lsg_resnet20_cifar10")
parser.add_argument("--epochs", type=int, default=6)
parser.add_argument("--learning-rate", type=float, default=0.02)
parser.add_argument("--output", default="finetuned")
arguments = parser.parse_args()

trained = zoo.load(arguments.name)
if arguments.images:
    folder = keras.utils.image_dataset_from_directory(
        arguments.images, image_size=trained.input_shape[1:3], batch_size=None, shuffle=False
    )
    images, labels = zip(*((np.asarray(image).astype("uint8"), int(label)) for image, label in folder))
    dataset = data.ArrayDataset(np.stack(images), np.array(labels, "int32"), tuple(folder.class_names), arguments.images)
else:
    dataset = data.load(arguments.dataset, arguments.split, arguments.data_dir, image_size=trained.input_shape[1:3])

order = np.random.default_rng(0).permutation(len(dataset))
held_out, kept = dataset[order[: len(order) // 10]], dataset[order[len(order) // 10 :]]

model = zoo.build(arguments.name, labels=dataset.class_names, input_shape=dataset.inputs.shape[1:])
for layer in model.layers:
    if layer.name != "logits" and layer.weights:
        layer.set_weights(trained.get_layer(layer.name).get_weights())
model.optimizer.learning_rate = arguments.learning_rate

batches = data.Batches(kept, min(128, len(kept)), pad=4, flip=True)
if hasattr(model, "gate"):
    # The L1 term alone closes an entry of the gate in 1 / (gate_weight * sparsity_weight * gate_learning_rate) steps; let it
    # do so within a quarter of the training.
    model.gate_learning_rate = 4 / (arguments.epochs * len(batches) * model.gate_weight * model.sparsity_weight)
model.fit(batches, epochs=arguments.epochs, validation_data=(held_out.inputs, held_out.targets))
# The golden inputs show, wherever the model travels, that it works.
zoo.save(model, arguments.output, golden_inputs=held_out.inputs[:8])
print(f"Wrote {arguments.output}; load it with zoo.load({arguments.output!r})")
