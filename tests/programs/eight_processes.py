"""Eight forks fetch the model NAME at once, each checks the hashes of its files; prints their exit codes, then loads it."""

import os
import sys

from keras_interp import zoo
from keras_interp.zoo.store import find_folder

children = []
for _ in range(8):
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = int(not (find_folder(sys.argv[1]) / "model.weights.h5").is_file())
        finally:
            os._exit(code)
    children.append(child)
print([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
assert zoo.load(sys.argv[1]).class_names == ("cat", "dog", "ship")
