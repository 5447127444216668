"""Imports the packages of keras_interp, or with arguments runs its command; prints which heavy packages were imported."""

import atexit
import sys


def report():
    print("loaded", *(name for name in ("keras", "tensorflow_datasets") if name in sys.modules))


atexit.register(report)
if sys.argv[1:]:
    from keras_interp.cli import main

    main(sys.argv[1:], standalone_mode=False)
else:
    from keras_interp import data, models, zoo  # noqa: F401
