"""The command as a module: python -m keras_interp."""

from keras_interp.cli import main

main(prog_name="keras-interp")
