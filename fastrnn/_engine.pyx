# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
# cython: freethreading_compatible=True
"""The only door to the C engine: checks arrays, owns memory, releases the GIL. No arithmetic."""

import os

from libc.stdint cimport int32_t, int64_t, uint8_t, uint64_t, uintptr_t
from libc.stdlib cimport free, malloc

cimport numpy as cnp
import numpy as np

cnp.import_array()

include "engine_recurrent.pxi"
include "engine_layers.pxi"
include "engine_training.pxi"
include "engine_crf.pxi"
