"""Regenerates the tables and figures of a paper, as `keras-interp reproduce` does: python -m reproduction KEY [OPTIONS]."""

from keras_interp.cli import reproduce

if __name__ == "__main__":
    reproduce(prog_name="python -m reproduction")
