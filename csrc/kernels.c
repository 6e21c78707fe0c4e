/* The kernels of one instruction set; setup.py compiles this file once for each. */
#include "kernels.h"
#include "simd.h"

#include "gemm.inc.c"
#include "recurrent.inc.c"
#include "layers.inc.c"
#include "pointwise.inc.c"
#include "crf.inc.c"

#if V == 16
#define TABLE fr_kernels_avx512
#elif V == 8
#define TABLE fr_kernels_avx2
#else
#define TABLE fr_kernels_base
#endif

const kernel_table TABLE = {
    .packed_size = rnn_packed_size,
    .packed_back_size = rnn_packed_back_size,
    .pack_parts = rnn_pack_parts,
    .pack = rnn_pack,
    .pack_back_parts = rnn_pack_back_parts,
    .pack_back = rnn_pack_back,
    .saved_size = rnn_saved_size,
    .forward_scratch = rnn_forward_scratch,
    .backward_scratch = rnn_backward_scratch,
    .chunks = rnn_chunks,
    .products_size = rnn_products_size,
    .multiply = rnn_multiply,
    .gather_gradients = rnn_gather_gradients,
    .input_weight_gradients = rnn_input_weight_gradients,
    .choice_gradients = rnn_choice_gradients,
    .forward = rnn_forward,
    .backward = rnn_backward,
    .gradients_in_place = rnn_gradients_in_place,
    .unpack_gradient = rnn_unpack_gradient,
    .dense_packed_size = dense_packed_size,
    .dense_pack_parts = dense_pack_parts,
    .dense_pack = dense_pack,
    .dense_forward = dense_forward,
    .dense_slope = dense_slope,
    .dense_add_gradient = dense_add_gradient,
    .dense_place_gradient = dense_place_gradient,
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
    .activate = pointwise_activate,
    .activate_back = pointwise_activate_back,
    .softmax = pointwise_softmax,
    .loss = pointwise_loss,
    .binary_matches = pointwise_binary_matches,
    .class_matches = pointwise_class_matches,
    .crf_loss = crf_loss,
    .crf_path = crf_path,
};
