/* The kernels of one instruction set; setup.py compiles this file once for each. */
#include "kernels.h"
#include "simd.h"

#include "gemm.inc.c"
#include "lstm.inc.c"
#include "layers.inc.c"
#include "pointwise.inc.c"

#if V == 16
#define TABLE fr_kernels_avx512
#elif V == 8
#define TABLE fr_kernels_avx2
#else
#define TABLE fr_kernels_base
#endif

const kernel_table TABLE = {
    .packed_size = lstm_packed_size,
    .packed_back_size = lstm_packed_back_size,
    .pack_parts = lstm_pack_parts,
    .pack = lstm_pack,
    .pack_back_parts = lstm_pack_back_parts,
    .pack_back = lstm_pack_back,
    .saved_size = lstm_saved_size,
    .forward_scratch = lstm_forward_scratch,
    .backward_scratch = lstm_backward_scratch,
    .forward = lstm_forward,
    .backward = lstm_backward,
    .unpack_gradient = lstm_unpack_gradient,
    .dense_packed_size = dense_packed_size,
    .dense_pack_parts = dense_pack_parts,
    .dense_pack = dense_pack,
    .dense_forward = dense_forward,
    .dense_backward = dense_backward,
    .dense_unpack_gradient = dense_unpack_gradient,
    .dropout = dropout,
    .embedding_forward = embedding_forward,
    .embedding_backward = embedding_backward,
    .bn_moments = bn_moments,
    .bn_forward = bn_forward,
    .bn_sums = bn_sums,
    .bn_backward = bn_backward,
    .update = pointwise_update,
    .sum_of_squares = pointwise_sum_of_squares,
    .scale = pointwise_scale,
    .clip = pointwise_clip,
    .loss = pointwise_loss,
    .binary_matches = pointwise_binary_matches,
    .class_matches = pointwise_class_matches,
};
