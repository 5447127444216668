"""Selects the wheel's part of the zoo: small models complete, of others only figures and logs.

The weights of the others come from the Hub, or from the `zoo` folder of a checkout.
"""

import pathlib

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LARGEST_MODEL = 2_000_000
ALWAYS = ("metadata.json", "metrics.json", "training_log.csv", "gate.npy")


class ZooHook(BuildHookInterface):
    def initialize(self, version, build_data):
        # An editable installation takes them from the checkout.
        if version == "editable":
            return
        for folder in sorted(path for path in (pathlib.Path(self.root) / "zoo").iterdir() if path.is_dir()):
            small = sum(path.stat().st_size for path in folder.iterdir()) <= LARGEST_MODEL
            for path in sorted(folder.iterdir()):
                if path.is_file() and (small or path.name in ALWAYS):
                    build_data["force_include"][str(path)] = f"keras_interp/zoo/weights/{folder.name}/{path.name}"
