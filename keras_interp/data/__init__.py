"""Datasets by name or from arrays, and augmented batches."""

from keras_interp.data.arrays import ArrayDataset, Batches, augment
from keras_interp.data.birds import BirdDataset, load_birds
from keras_interp.data.credits import CREDITS
from keras_interp.data.folders import load_folder, stratified_split
from keras_interp.data.independent_xor import load_independent_xor
from keras_interp.data.lazy import LazyDataset
from keras_interp.data.pictures import load_picture
from keras_interp.data.schema import Table, TableSchema
from keras_interp.data.segmentation import SegmentationDataset, load_broden, load_segmentation
from keras_interp.data.sources import load, load_lazily, load_npz, prepare

__all__ = [
    "CREDITS",
    "ArrayDataset",
    "Batches",
    "BirdDataset",
    "LazyDataset",
    "SegmentationDataset",
    "Table",
    "TableSchema",
    "augment",
    "load",
    "load_birds",
    "load_broden",
    "load_folder",
    "load_independent_xor",
    "load_lazily",
    "load_npz",
    "load_picture",
    "load_segmentation",
    "prepare",
    "stratified_split",
]
