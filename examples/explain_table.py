"""Explains the prices of some districts of California, and what is left of the network that predicts them.

python examples/explain_table.py --data-dir DIR [--rows 4] [--output explanation.png]
"""

import argparse

from keras_interp import data, zoo

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data-dir", help="folder of the prepared data sets; by default TFDS_DATA_DIR")
parser.add_argument("--rows", type=int, default=4)
parser.add_argument("--output", default="explanation.png")
arguments = parser.parse_args()

model = zoo.load("fl_mlp_california_housing")
districts = data.load("california_housing_ocean", "test", arguments.data_dir)[: arguments.rows]
explanation = model.explain(districts.inputs)
explanation.check_completeness()
explanation.plot(path=arguments.output)

for number, (price, parts) in enumerate(zip(explanation.prediction, explanation.level_contributions)):
    levels = ", ".join(f"level {level} adds {part:+.2f}" for level, part in enumerate(parts, start=1))
    print(f"district {number}: ${100_000 * price:,.0f}; in $100,000: {levels}")

linear = [name for name, level in zip(districts.column_names, model.input_levels()) if level == 1]
print(f"The price depends linearly on: {', '.join(linear) or 'no column'}")
compact = model.compact()
print(f"{compact.count_params():,} of {model.count_params():,} parameters remain without gates and what they closed")
first = model.unit_names[0]
print(f"Prices without {first}: {model.intervene(districts.inputs, {first: 0.0})[:, 0].round(2).tolist()}")
print(f"Wrote {arguments.output}")
