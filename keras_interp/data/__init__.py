"""Data sets by name or from arrays, and augmented batches."""

from keras_interp.data.arrays import ArrayDataset, Batches, augment
from keras_interp.data.sources import load, load_npz

__all__ = ["ArrayDataset", "Batches", "augment", "load", "load_npz"]
