"""Explains a model's predictions of the first test examples of its dataset, and what is left of a network with gates.

python examples/explain.py fl_mlp_california_housing --data-dir DIR [--examples 4] [--output explanation.png]
"""

import argparse

from keras_interp import zoo
from keras_interp.zoo.registry import get_entry

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("name", choices=zoo.list_models(trained=True), metavar="NAME")
parser.add_argument("--data-dir", help="folder of the prepared datasets; defaults to TFDS_DATA_DIR")
parser.add_argument("--examples", type=int, default=4)
parser.add_argument("--output", default="explanation.png")
arguments = parser.parse_args()

model = zoo.load(arguments.name)
inputs = get_entry(arguments.name).load_data("test", arguments.data_dir)[: arguments.examples].inputs
explanation = model.explain(inputs)
explanation.check_completeness()
explanation.plot(path=arguments.output)
print(f"Wrote {arguments.output}")

for number, units in enumerate(explanation.top_units(3)):
    parts = ", ".join(f"{explanation.unit_names[unit]} {explanation.contributions[number, unit]:+.2f}" for unit in units)
    value = model.class_names[explanation.target[number]]
    print(f"example {number}, {value}: {parts}; bias {explanation.bias[number]:+.2f}")
    if explanation.levels is not None:
        levels = explanation.level_contributions[number]
        print("  " + ", ".join(f"level {level} adds {part:+.2f}" for level, part in enumerate(levels, start=1)))

strongest = explanation.unit_names[explanation.top_units(1)[0, 0]]
changed = model.intervene(inputs[:1], {strongest: 0.0})[0] - explanation.logits[0]
print(f"Without {strongest} the outputs for example 0 change by {[round(float(change), 3) for change in changed]}")

if hasattr(model, "compact"):
    compact = model.compact()
    print(f"{compact.count_params():,} of {model.count_params():,} parameters remain without gates and what they closed")
if hasattr(model, "column_names") and model.column_names:
    linear = [name for name, level in zip(model.column_names, model.input_levels()) if level == 1]
    print(f"The output depends linearly on: {', '.join(linear) or 'no column'}")
