/* Runs a network that fastrnn.to_c has written, without Python:
 *
 *     run_model MODEL BATCH TIMESTEPS [--stream] < inputs > outputs
 *
 * Inputs and outputs are raw numbers in the machine's order: float32, or int32 for a model that
 * begins with an Embedding. --stream feeds one time step at a time, the state kept between calls. */
#include "fastrnn.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int failed(const char *what, int status) {
    fprintf(stderr, "run_model: %s: %s%s%s\n", what, fastrnn_status_text(status),
            status == FASTRNN_CANNOT_READ ? ": " : "",
            status == FASTRNN_CANNOT_READ ? strerror(errno) : "");
    return 1;
}

int main(int argc, char **argv) {
    if (argc < 4) {
        fprintf(stderr, "usage: run_model MODEL BATCH TIMESTEPS [--stream] < inputs > outputs\n");
        return 2;
    }
    const int64_t batch = atoll(argv[2]), timesteps = atoll(argv[3]);
    const int stream = argc > 4 && !strcmp(argv[4], "--stream");

    fastrnn_model *model;
    fastrnn_session *session;
    fastrnn_input input;
    fastrnn_shape output;
    int status = fastrnn_check_abi(FASTRNN_ABI);
    if (status) return failed("library", status);
    if ((status = fastrnn_model_load(&model, argv[1]))) return failed(argv[1], status);
    if ((status = fastrnn_session_new(&session, model))) return failed("session", status);
    fastrnn_model_input(model, &input);
    if ((status = fastrnn_model_output(model, batch, timesteps, &output)))
        return failed("BATCH, TIMESTEPS", status);
    if (stream && input.state < 0) return failed("--stream", FASTRNN_NOT_STREAMABLE);

    const size_t step = (size_t)input.features * 4;
    const size_t steps = output.timesteps ? (size_t)output.timesteps : 1; /* RepeatVector makes others */
    char *x = malloc((size_t)(batch * timesteps) * step);
    char *step_x = malloc((size_t)batch * step);
    float *y = malloc((size_t)batch * steps * (size_t)output.features * sizeof(float));
    float *step_y = malloc((size_t)(batch * output.features) * sizeof(float));
    float *state = calloc((size_t)(input.state > 0 ? batch * input.state : 1), sizeof(float));
    if (!x || !step_x || !y || !step_y || !state) return failed("memory", FASTRNN_OUT_OF_MEMORY);
    if (fread(x, step, (size_t)(batch * timesteps), stdin) != (size_t)(batch * timesteps)) {
        fprintf(stderr, "run_model: expected %lld numbers on standard input\n",
                (long long)(batch * timesteps * input.features));
        return 1;
    }

    if (!stream) {
        if ((status = fastrnn_run(session, x, batch, timesteps, NULL, y))) return failed("run", status);
    }
    for (int64_t t = 0; t < timesteps && stream; t++) {
        for (int64_t b = 0; b < batch; b++)
            memcpy(step_x + (size_t)b * step, x + (size_t)(b * timesteps + t) * step, step);
        if ((status = fastrnn_run(session, step_x, batch, 1, state, step_y)))
            return failed("run", status);
        for (int64_t b = 0; b < batch; b++)
            memcpy(y + (b * (int64_t)steps + (output.timesteps ? t : 0)) * output.features,
                   step_y + b * output.features, (size_t)output.features * sizeof(float));
    }
    fwrite(y, sizeof(float), (size_t)batch * steps * (size_t)output.features, stdout);
    free(x), free(step_x), free(y), free(step_y), free(state);
    fastrnn_session_free(session);
    fastrnn_model_free(model);
    return fflush(stdout) ? 1 : 0;
}
