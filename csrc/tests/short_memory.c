/* Loads and runs a model again and again, while one allocation after another fails:
 *
 *     short_memory MODEL
 *
 * Each time the failing call says so, and the session and the model go on as before. Prints how
 * many allocations have failed. */
#include <stdlib.h>

static long before_failure;

static void *unless_it_fails(void *memory) {
    if (before_failure-- != 0) return memory;
    free(memory);
    return NULL;
}
static void *short_malloc(size_t size) { return unless_it_fails(malloc(size)); }
static void *short_calloc(size_t n, size_t size) { return unless_it_fails(calloc(n, size)); }
static void *short_aligned_alloc(size_t to, size_t n) { return unless_it_fails(aligned_alloc(to, n)); }

#define malloc short_malloc
#define calloc short_calloc
#define aligned_alloc short_aligned_alloc
#include "../model_reading.c"
#include "../model_running.c"
#include "../model_shapes.c"

#include <stdio.h>

enum { BATCH = 3, STEPS = 50, ROOM = 1 << 20, PORTS = 4 };

static int failures;
static void check(int right) {
    if (!right) printf("wrong after %d failures\n", failures), exit(1);
}

int main(int argc, char **argv) {
    if (argc < 2) return 2;
    static float xs[PORTS][ROOM], ys[PORTS][ROOM]; /* zeros are good indices too */
    const void *x[PORTS] = {xs[0], xs[1], xs[2], xs[3]};
    float *y[PORTS] = {ys[0], ys[1], ys[2], ys[3]};
    for (;; failures++) {
        fastrnn_model *model = NULL;
        fastrnn_session *session = NULL;
        fastrnn_sizes sizes;
        fastrnn_port port;
        fastrnn_shape in[PORTS], out[PORTS];
        before_failure = failures;
        int status = fastrnn_model_load(&model, argv[1]);
        if (!status) {
            fastrnn_graph_sizes(model, &sizes);
            check(sizes.inputs <= PORTS && sizes.outputs <= PORTS);
            for (int i = 0; i < sizes.inputs; i++) {
                fastrnn_graph_input(model, i, &port);
                const int64_t steps = port.timesteps ? port.timesteps : port.sequences ? STEPS : 0;
                in[i] = (fastrnn_shape){BATCH, steps, port.features};
                check(floats_of(in[i]) <= ROOM);
            }
            status = fastrnn_graph_shapes(model, in, out);
            for (int i = 0; i < sizes.outputs && !status; i++) check(floats_of(out[i]) <= ROOM);
            if (!status) status = fastrnn_session_new(&session, model);
            if (!status) status = fastrnn_graph_run(session, x, in, NULL, y);
            if (status && session) check(fastrnn_graph_run(session, x, in, NULL, y) == FASTRNN_OK);
        }
        check(status == FASTRNN_OK || status == FASTRNN_OUT_OF_MEMORY);
        fastrnn_session_free(session);
        fastrnn_model_free(model);
        if (status == FASTRNN_OK) break;
    }
    printf("%d\n", failures);
    return 0;
}
