/* Greedy decoding with two models that fastrnn.to_c has written, as Keras's guides make them:
 *
 *     decode ENCODER DECODER START STOP MOST < indices > indices
 *
 * The encoder takes a sequence of indices and gives states; the decoder takes the index before and the
 * states, and gives probabilities of the next index and the states after it. Indices are int32 in the
 * machine's order. It begins with START and ends before STOP, or after MOST indices. */
#include "fastrnn.h"

#include <stdio.h>
#include <stdlib.h>

enum { STATES = 8, LONGEST = 4096 };

static void need(int status, const char *what) {
    if (!status) return;
    fprintf(stderr, "decode: %s: %s\n", what, fastrnn_status_text(status));
    exit(1);
}

static fastrnn_session *open_model(const char *path, fastrnn_model **model, fastrnn_sizes *sizes) {
    fastrnn_session *session;
    need(fastrnn_model_load(model, path), path);
    need(fastrnn_session_new(&session, *model), path);
    need(fastrnn_graph_sizes(*model, sizes), path);
    return session;
}

static int32_t best_of(const float *probabilities, int64_t count) {
    int64_t best = 0;
    for (int64_t i = 1; i < count; i++)
        if (probabilities[i] > probabilities[best]) best = i;
    return (int32_t)best;
}

int main(int argc, char **argv) {
    if (argc < 6) {
        fprintf(stderr, "usage: decode ENCODER DECODER START STOP MOST < indices > indices\n");
        return 2;
    }
    static int32_t source[LONGEST];
    const int64_t length = (int64_t)fread(source, sizeof *source, LONGEST, stdin);
    int32_t token = (int32_t)atoi(argv[3]);
    const int32_t stop = (int32_t)atoi(argv[4]);

    fastrnn_model *encoder, *decoder;
    fastrnn_sizes ends, steps;
    need(fastrnn_check_abi(FASTRNN_ABI), "library");
    fastrnn_session *encoding = open_model(argv[1], &encoder, &ends);
    fastrnn_session *decoding = open_model(argv[2], &decoder, &steps);
    const int states = ends.outputs;
    if (ends.inputs != 1 || states > STATES || steps.inputs != 1 + states || steps.outputs != 1 + states)
        need(FASTRNN_BAD_ARGUMENT, "the decoder takes an index and what the encoder gives, and gives as many");

    const fastrnn_shape whole = {1, length, 1};
    fastrnn_shape in[1 + STATES] = {{1, 1, 1}}, out[1 + STATES];
    const void *x[1 + STATES] = {&token};
    float *y[1 + STATES]; /* a decoder's states go from y + 1 to x + 1 and back */
    need(fastrnn_graph_shapes(encoder, &whole, in + 1), "the encoder's input");
    need(fastrnn_graph_shapes(decoder, in, out), "the decoder's inputs");
    for (int i = 0; i <= states; i++) {
        const size_t size = (size_t)(out[i].timesteps ? out[i].timesteps : 1) * (size_t)out[i].features;
        if (!(y[i] = malloc(size * sizeof(float)))) need(FASTRNN_OUT_OF_MEMORY, "states");
        if (i && !(x[i] = malloc(size * sizeof(float)))) need(FASTRNN_OUT_OF_MEMORY, "states");
    }

    const void *const sources[] = {source};
    need(fastrnn_graph_run(encoding, sources, &whole, NULL, y + 1), "encoder");
    for (int n = atoi(argv[5]); n > 0; n--) {
        for (int i = 1; i <= states; i++) {
            float *next = (float *)x[i];
            x[i] = y[i], y[i] = next;
        }
        need(fastrnn_graph_run(decoding, x, in, NULL, y), "decoder");
        token = best_of(y[0], out[0].features);
        if (token == stop) break;
        fwrite(&token, sizeof token, 1, stdout);
    }

    for (int i = 0; i <= states; i++) {
        free(y[i]);
        if (i) free((void *)x[i]);
    }
    fastrnn_session_free(encoding), fastrnn_session_free(decoding);
    fastrnn_model_free(encoder), fastrnn_model_free(decoder);
    return fflush(stdout) ? 1 : 0;
}
