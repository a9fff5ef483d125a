/* Stands in for libedgetpu.so.1 where there is no Edge TPU: the delegate plug-in of TensorFlow
 * Lite that takes every "edgetpu-custom-op", as compiled models have them, and misbehaves on
 * demand.
 *
 * The file that $EDGETPU_STANDIN names holds words that are read again at every call:
 *
 *   absent     create() finds no device          fail     invoke() returns an error
 *   busy       create() says why it refuses      fail=N   so does the Nth invoke() and all after
 *   crash      create() ends with SIGSEGV        hang     invoke() waits while the word is there
 *   wait       create() waits while it is there  hang=N   so do the Nth and all after
 *   newer      prepare() refuses the model       wrong    invoke() answers the next class
 *   claimless  no operator is taken              class=N  invoke() answers class N
 *
 * Without "class" the model must give a score for each channel of its picture: their means.
 *
 * The structs are the heads of those in tensorflow/lite/core/c/common.h, the same from 2.5 to
 * LiteRT 2. The size of a tensor is not the same: it is found from what the tensors hold.
 */
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { OK = 0, ERROR = 1, ALLOW_DYNAMIC_TENSORS = 1, THREADS = 16 };

typedef struct { int size, data[]; } Ints;
typedef struct Context Context;
typedef struct Delegate Delegate;
typedef struct { int type; uint8_t *data; Ints *dims; float scale; int32_t zero_point;
                 int allocation; size_t bytes; } Tensor;
typedef struct { Ints *inputs, *outputs, *intermediates, *temporaries; void *user_data; } Node;
typedef struct { void *(*init)(Context *, const char *, size_t); void (*free)(Context *, void *);
                 int (*prepare)(Context *, Node *); int (*invoke)(Context *, Node *);
                 const char *(*profiling)(const Context *, const Node *); int32_t builtin_code;
                 const char *custom_name; int version; void *room[8]; } Registration;
struct Context { size_t tensors_size; int (*plan)(Context *, Ints **); char *tensors; void *impl;
                 void *resize; void (*report)(Context *, const char *, ...); void *add;
                 int (*node)(Context *, int, Node **, Registration **);
                 int (*replace)(Context *, Registration, const Ints *, Delegate *); };
struct Delegate { void *data; int (*prepare)(Context *, Delegate *); void *from, *to, *release;
                  int64_t flags; void *opaque; };

static int invokes, delegates, threads;
static long thread_ids[THREADS];
static char device[64];

/* What the tests ask: how often, on how many threads, and with which device option. */
int standin_invokes(void) { return invokes; }
int standin_delegates(void) { return delegates; }
int standin_threads(void) { return threads; }
const char *standin_device(void) { return device; }

static void note_thread(void) {
    long id = syscall(SYS_gettid);
    for (int i = 0; i < threads; i++)
        if (thread_ids[i] == id) return;
    if (threads < THREADS) thread_ids[threads++] = id;
}

/* Whether the control file holds the word; "word=N" also gives N. */
static bool told(const char *word, int *number) {
    const char *path = getenv("EDGETPU_STANDIN");
    FILE *file = path ? fopen(path, "r") : NULL;
    char text[64];
    bool found = false;
    size_t length = strlen(word);
    while (file && !found && fscanf(file, "%63s", text) == 1)
        if (!strncmp(text, word, length) && (!text[length] || (number && text[length] == '='))) {
            found = true;
            if (number) *number = text[length] ? atoi(text + length + 1) : 0;
        }
    if (file) fclose(file);
    return found;
}

static void wait_while_told(const char *word) {
    while (told(word, &(int){0})) nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

static Tensor *tensor(Context *c, size_t size, int index) { return (Tensor *)(c->tensors + size * index); }

static bool looks_like_a_tensor(const Tensor *t) {
    if (t->type < 1 || t->type > 20 || !t->dims || t->dims->size < 0 || t->dims->size > 6) return false;
    size_t values = 1;
    for (int i = 0; i < t->dims->size; i++) values *= t->dims->data[i];
    return t->bytes == values || t->bytes == 4 * values; /* 8-bit, or float and int32 */
}

/* sizeof(TfLiteTensor) of the runtime that called: the step at which tensors follow tensors. */
static size_t tensor_size(Context *c) {
    for (size_t size = sizeof(Tensor); size <= 256; size += 8) {
        size_t i = 0;
        while (i < c->tensors_size && looks_like_a_tensor(tensor(c, size, i))) i++;
        if (i == c->tensors_size) return size;
    }
    return 0;
}

static void *kernel_init(Context *c, const char *parameters, size_t length) {
    (void)c, (void)parameters, (void)length;
    return NULL;
}
static void kernel_free(Context *c, void *data) { (void)c, (void)data; }

static int kernel_prepare(Context *c, Node *node) {
    (void)node;
    if (told("newer", NULL)) {
        c->report(c, "Failed to prepare for TPU. Failed precondition: Package requires runtime version "
                     "(15), which is newer than this runtime version (14).");
        return ERROR;
    }
    return OK;
}

static void answer_means(const Tensor *picture, Tensor *scores) {
    size_t classes = scores->bytes, pixels = picture->bytes / classes;
    for (size_t k = 0; k < classes; k++) {
        long sum = 0;
        for (size_t i = k; i < picture->bytes; i += classes)
            sum += picture->type == 9 ? (int8_t)picture->data[i] : picture->data[i];
        scores->data[k] = (uint8_t)(sum / (long)pixels);
    }
}

static int kernel_invoke(Context *c, Node *node) {
    note_thread();
    int number = ++invokes, hang = 0, from = 0, answer = 0;
    if (told("hang", &hang) && number >= hang) wait_while_told("hang");
    if (told("fail", &from) && number >= from) {
        c->report(c, "USB transfer error 1 [LibUsbDataInCallback]");
        return ERROR;
    }
    size_t size = tensor_size(c);
    if (!size) return ERROR;
    Tensor *picture = tensor(c, size, node->inputs->data[0]);
    Tensor *scores = tensor(c, size, node->outputs->data[0]);
    if (told("class", &answer)) {
        memset(scores->data, scores->type == 9 ? -128 : 0, scores->bytes);
        scores->data[answer % scores->bytes] = scores->type == 9 ? 100 : 200;
    } else {
        answer_means(picture, scores);
    }
    if (told("wrong", NULL)) {
        uint8_t last = scores->data[scores->bytes - 1];
        memmove(scores->data + 1, scores->data, scores->bytes - 1);
        scores->data[0] = last;
    }
    return OK;
}

static int claim(Context *c, Delegate *delegate) {
    Ints *plan;
    if (c->plan(c, &plan)) return ERROR;
    Ints *taken = malloc(sizeof(int) * (plan->size + 1));
    taken->size = 0;
    for (int i = 0; i < plan->size && !told("claimless", NULL); i++) {
        Node *node;
        Registration *kernel;
        if (c->node(c, plan->data[i], &node, &kernel)) return ERROR;
        if (kernel->custom_name && !strcmp(kernel->custom_name, "edgetpu-custom-op"))
            taken->data[taken->size++] = plan->data[i];
    }
    Registration kernel = {.init = kernel_init, .free = kernel_free, .prepare = kernel_prepare,
                           .invoke = kernel_invoke, .custom_name = "EdgeTpuDelegateForCustomOp",
                           .version = 1};
    int status = taken->size ? c->replace(c, kernel, taken, delegate) : OK;
    free(taken);
    return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t options,
                                        void (*report)(const char *)) {
    note_thread();
    if (told("crash", NULL)) raise(SIGSEGV);
    wait_while_told("wait");
    device[0] = 0;
    for (size_t i = 0; i < options; i++)
        if (!strcmp(keys[i], "device")) snprintf(device, sizeof device, "%s", values[i]);
    if (told("busy", NULL)) report("Device is held by another process");
    if (told("busy", NULL) || told("absent", NULL)) return NULL; /* the real one gives no reason */
    Delegate *delegate = calloc(1, sizeof *delegate);
    delegate->prepare = claim;
    delegate->flags = ALLOW_DYNAMIC_TENSORS; /* claim before any tensor is prepared */
    delegates++;
    return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) {
    note_thread();
    delegates--;
    free(delegate);
}
