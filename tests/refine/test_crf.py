import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from selfseg.core.errors import UsageError
from selfseg.refine._gaussian import GridGaussian
from selfseg.refine._lattice import Lattice
from selfseg.refine._mean_field import Normalised
from selfseg.refine.crf import colour_range, dense_crf
from tests.reference.crf_loops import dense_crf_loops, gaussian_rows, message, places
