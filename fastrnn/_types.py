"""Types of arguments, imported by type checkers alone. Of what `**kwargs` takes too, the older
spellings among it, they know the names: a misspelt one is an error there as in the run."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, SupportsIndex, TypedDict

import numpy as np
from typing_extensions import Unpack as Unpack  # type checkers bring it

Whole = SupportsIndex  # a whole number
Path = str | os.PathLike[str]
Config = Mapping[str, Any]
Identifier = str | Config | Callable[..., Any] | None  # a name, a config, a class or an object
Initializer = Identifier | np.ndarray
Shape = SupportsIndex | Sequence[SupportsIndex | None]
Sizes = SupportsIndex | Sequence[SupportsIndex]
Edges = SupportsIndex | Sequence[Sizes]
Axes = SupportsIndex | Sequence[SupportsIndex]
DataFormat = Literal["channels_last", "channels_first"] | None
CustomObjects = Mapping[str, Any] | None
Rate = float | Callable[..., Any] | Config | np.ndarray  # or a schedule
Reduction = Literal["sum_over_batch_size", "mean", "mean_with_sample_weight", "sum", "none"] | None


class ShapeOptions(TypedDict, total=False):
    input_shape: Shape | None
    batch_input_shape: Sequence[SupportsIndex | None] | None
    batch_size: SupportsIndex | None
    input_length: SupportsIndex | None


class InputOptions(ShapeOptions, total=False):
    input_dim: SupportsIndex | None


class Options(InputOptions, total=False):
    """Of every layer, but activity_regularizer and weights where they are arguments."""

    name: str | None
    trainable: bool
    dtype: Any
    autocast: bool
    quantization_config: Any


class LayerOptions(Options, total=False):
    activity_regularizer: Identifier
    weights: Sequence[Any] | None


class WeightedOptions(Options, total=False):
    """Of layers with a kernel and a bias: Keras 1's names too."""

    weights: Sequence[Any] | None
    init: Initializer
    W_regularizer: Identifier
    b_regularizer: Identifier
    W_constraint: Identifier
    b_constraint: Identifier
    bias: bool


class RecurrentOptions(WeightedOptions, total=False):
    zero_output_for_mask: bool
    implementation: Any
    time_major: bool
    inner_init: Initializer
    inner_activation: Identifier
    forget_bias_init: str
    U_regularizer: Identifier
    U_constraint: Identifier
    dropout_W: float
    dropout_U: float
    consume_less: Any


class CellOptions(LayerOptions, total=False):
    implementation: Any


class StackOptions(LayerOptions, total=False):
    reverse_state_order: bool


class RNNOptions(CellOptions, total=False):
    time_major: bool


class ConvolutionOptions(WeightedOptions, total=False):
    subsample_length: SupportsIndex
    border_mode: str


class ConvLSTMOptions(RecurrentOptions, total=False):
    unroll: bool
    nb_filter: SupportsIndex
    border_mode: str
    subsample: Sizes


class ConvLSTM2DOptions(ConvLSTMOptions, total=False):
    dim_ordering: str


class WindowedOptions(Options, total=False):
    weights: Sequence[Any] | None


class SpatialOptions(LayerOptions, total=False):
    dim_ordering: str


class Convolution2DOptions(WeightedOptions, total=False):
    subsample: Sizes
    border_mode: str
    dim_ordering: str


class Pooling2DOptions(SpatialOptions, total=False):
    border_mode: str


class PoolingOptions(LayerOptions, total=False):
    pool_length: Sizes
    stride: Sizes
    subsample_length: Sizes
    border_mode: str


class UpSamplingOptions(LayerOptions, total=False):
    length: SupportsIndex


class EmbeddingOptions(ShapeOptions, total=False):
    name: str | None
    trainable: bool
    dtype: Any
    init: Initializer
    W_regularizer: Identifier
    W_constraint: Identifier
    activity_regularizer: Identifier
    dropout: float


class LookupOptions(ShapeOptions, total=False):
    trainable: bool
    dtype: Any
    autocast: bool
    vocabulary_size: SupportsIndex | None
    has_input_vocabulary: bool


class NormalizationOptions(LayerOptions, total=False):
    beta_init: Initializer
    gamma_init: Initializer
    renorm: bool
    renorm_clipping: Any
    renorm_momentum: float
    fused: bool | None
    mode: int


class NoiseOptions(LayerOptions, total=False):
    p: float
    sigma: float


class SpatialNoiseOptions(NoiseOptions, total=False):
    dim_ordering: str


class DecayingOptions(TypedDict, total=False):
    """Of every optimizer, but weight_decay."""

    clipnorm: float | None
    clipvalue: float | None
    global_clipnorm: float | None
    use_ema: bool
    ema_momentum: float
    ema_overwrite_frequency: SupportsIndex | None
    gradient_accumulation_steps: SupportsIndex | None
    name: str | None
    decay: float
    lr: Rate
    is_legacy_optimizer: bool
    jit_compile: bool | str
    loss_scale_factor: float | None


class LeakyOptions(LayerOptions, total=False):
    alpha: float


class PReLUOptions(LayerOptions, total=False):
    init: Initializer


class BidirectionalOptions(Options, total=False):
    activity_regularizer: Identifier


class LayerBaseOptions(InputOptions, total=False):
    weights: Sequence[Any] | None
    autocast: bool
    quantization_config: Any


class InputLayerOptions(TypedDict, total=False):
    batch_input_shape: Sequence[SupportsIndex | None] | None
    optional: bool


class TensorOptions(InputLayerOptions, total=False):
    sparse: bool
    ragged: bool
    input_shape: Shape | None


class OptimizerOptions(DecayingOptions, total=False):
    weight_decay: float | None


class QueueOptions(TypedDict, total=False):
    """Of fit, evaluate and predict, in Keras 1 and 2."""

    max_queue_size: int
    workers: int
    use_multiprocessing: bool
    max_q_size: int
    nb_worker: int
    pickle_safe: bool
    show_accuracy: bool


class ModelOptions(TypedDict, total=False):
    input: Any
    output: Any


class CompileOptions(TypedDict, total=False):
    sample_weight_mode: Any
    class_mode: Any


class TensorBoardOptions(TypedDict, total=False):
    batch_size: Any
    write_grads: Any
    embeddings_layer_names: Any
    embeddings_data: Any
