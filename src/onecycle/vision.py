"""The notebook's namespace: ``from onecycle.vision import *`` brings what lessons written for fastai v1 use."""

from __future__ import annotations

import os
import re
import sys
from functools import partial
from operator import itemgetter
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn, optim

# Names as tables, here and in __all__:
# fmt: off
# isort: off
from onecycle.data.augment.transforms import (
    brightness, contrast, crop, crop_pad, cutout, dihedral, dihedral_affine, flip_affine, flip_lr, get_transforms,
    jitter, perspective_warp, rand_crop, rand_pad, rand_resize_crop, rand_zoom, rgb_randomize, rotate, skew, squish,
    symmetric_warp, tilt, zoom, zoom_crop,
)
from onecycle.data.batches import cifar_stats, imagenet_stats, mnist_stats
from onecycle.data.bunch import ImageDataBunch
from onecycle.data.data_block import ImageList
from onecycle.data.labels.items import Category, DatasetType, MultiCategory, get_image_files
from onecycle.data.pixels.image import Image, open_image
from onecycle.data.pixels.resize import ResizeMethod
from onecycle.data.sources.untar import URLs, untar_data
from onecycle.deploy.exported import load_learner
from onecycle.doc import doc
from onecycle.evaluation.interpretation import ClassificationInterpretation
from onecycle.learner.cnn import cnn_learner, create_cnn
from onecycle.learner.fits.checkpoints import CheckpointCallback
from onecycle.learner.learner import Learner
from onecycle.learner.oversampling import OverSamplingCallback
from onecycle.model.backbones import models
from onecycle.model.heads import AdaptiveConcatPool2d, Flatten, create_head
from onecycle.settings import Config
from onecycle.train.callbacks import (
    AccumulateScheduler, BnFreeze, CSVLogger, GradientClipping, MixUpCallback, ShowGraph, TerminateOnNaNCallback,
)
from onecycle.train.loop import Callback
from onecycle.train.losses import (
    AsymmetricLoss, BCEWithLogitsFlat, CrossEntropyFlat, FocalLoss, LabelSmoothingCrossEntropy,
)
from onecycle.train.metrics import (
    AUROC, ConfusionMatrix, FBeta, KappaScore, MatthewsCorreff, MultiLabelFbeta, Precision, Recall, accuracy,
    accuracy_thresh, error_rate, exact_match_error, fbeta, mean_average_precision, top_k_accuracy,
)
from onecycle.train.monitors import EarlyStoppingCallback, ReduceLROnPlateauCallback, SaveModelCallback

ImageItemList = ImageList  # the older name, met in early notebooks

__all__ = [
    "AUROC", "AccumulateScheduler", "AdaptiveConcatPool2d", "AsymmetricLoss", "BCEWithLogitsFlat", "BnFreeze",
    "CSVLogger", "Callback", "Category", "CheckpointCallback", "ClassificationInterpretation", "Config",
    "ConfusionMatrix", "CrossEntropyFlat", "DatasetType", "EarlyStoppingCallback", "F", "FBeta", "Flatten", "FocalLoss",
    "GradientClipping", "Image", "ImageDataBunch", "ImageItemList", "ImageList", "KappaScore",
    "LabelSmoothingCrossEntropy", "Learner", "MatthewsCorreff", "MixUpCallback", "MultiCategory", "MultiLabelFbeta",
    "OverSamplingCallback", "Path", "Precision", "Recall", "ReduceLROnPlateauCallback", "ResizeMethod",
    "SaveModelCallback", "ShowGraph", "Tensor", "TerminateOnNaNCallback", "URLs", "accuracy", "accuracy_thresh",
    "brightness", "cifar_stats", "cnn_learner", "contrast", "create_cnn", "create_head", "crop", "crop_pad",
    "cutout", "dihedral", "dihedral_affine", "doc", "error_rate", "exact_match_error", "fbeta", "flip_affine",
    "flip_lr", "get_image_files", "get_transforms", "imagenet_stats", "itemgetter", "jitter",
    "load_learner", "mean_average_precision", "mnist_stats", "models", "nn", "np", "open_image", "optim", "os",
    "partial", "pd", "perspective_warp", "plt", "rand_crop", "rand_pad", "rand_resize_crop", "rand_zoom", "re",
    "rgb_randomize", "rotate", "skew", "squish", "symmetric_warp", "sys", "tilt", "top_k_accuracy", "torch",
    "untar_data", "zoom", "zoom_crop",
]
