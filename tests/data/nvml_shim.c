/* A fake libnvidia-ml.so.1: cards from a text file, so that the real pynvml can be tested without a driver.
 *
 * FAKE_NVML names the file, read again at every call. One line a card, more words in any order:
 *     NAME TOTAL_MIB USED_MIB MILLIWATTS CELSIUS PERCENT [lost] [gone] [throttle=BITS] [mig] [persistence] [ecc=ERRORS]
 *         [pid=PID:MIB ...]
 * A lost card has a handle that answers nothing, a gone one not even that. Without the file the driver is not loaded.
 * FAKE_CUDA is the CUDA version of the driver, 13000 when not given.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, INSUFFICIENT_SIZE = 7, DRIVER_NOT_LOADED = 9 };
enum { GPU_IS_LOST = 15, MOST_CARDS = 16, MOST_PROCESSES = 8, MIB = 1048576 };

typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } process_t;
typedef struct {
    char name[64];
    unsigned long long total, used, reasons, ecc_errors;
    unsigned power, celsius, percent, processes;
    int lost, gone, mig, persistence, ecc;
    process_t process[MOST_PROCESSES];
} card_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;

static card_t cards[MOST_CARDS];
static unsigned count;

static void read_word(card_t *card, const char *word) {
    process_t *next = &card->process[card->processes];
    unsigned long long mib;
    if (strcmp(word, "lost") == 0) card->lost = 1;
    if (strcmp(word, "gone") == 0) card->lost = card->gone = 1;
    if (strcmp(word, "mig") == 0) card->mig = 1;
    if (strcmp(word, "persistence") == 0) card->persistence = 1;
    if (strncmp(word, "throttle=", 9) == 0) card->reasons = strtoull(word + 9, NULL, 0);
    if (sscanf(word, "ecc=%llu", &card->ecc_errors) == 1) card->ecc = 1;
    if (card->processes < MOST_PROCESSES && sscanf(word, "pid=%u:%llu", &next->pid, &mib) == 2) {
        next->used = mib * MIB;
        card->processes++;
    }
}

static int read_cards(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[512];
    int length;
    if (!file) return DRIVER_NOT_LOADED;
    count = 0;
    while (count < MOST_CARDS && fgets(line, sizeof line, file)) {
        card_t *card = &cards[count];
        memset(card, 0, sizeof *card);
        if (sscanf(line, "%63s %llu %llu %u %u %u%n", card->name, &card->total, &card->used, &card->power,
                   &card->celsius, &card->percent, &length) < 6) continue;
        for (char *word = strtok(line + length, " \n"); word; word = strtok(NULL, " \n")) read_word(card, word);
        count++;
    }
    fclose(file);
    return SUCCESS;
}

static int look_at(const card_t *card) {
    int code = read_cards();
    return code != SUCCESS ? code : card->lost ? GPU_IS_LOST : SUCCESS;
}

int nvmlInit_v2(void) { return read_cards(); }
int nvmlInitWithFlags(unsigned flags) { (void)flags; return read_cards(); }
int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned *found) { int code = read_cards(); *found = count; return code; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **handle) {
    if (index >= count) return INVALID_ARGUMENT;
    if (cards[index].gone) return GPU_IS_LOST;
    *handle = &cards[index];
    return SUCCESS;
}

int nvmlDeviceGetName(void *handle, char *name, unsigned length) {
    card_t *card = handle;
    int code = look_at(card);
    snprintf(name, length, "%s", card->name);
    for (char *c = name; *c; c++) if (*c == '_') *c = ' ';
    return code;
}

int nvmlDeviceGetMemoryInfo(void *handle, memory_t *memory) {
    card_t *card = handle;
    int code = look_at(card);
    memory->total = card->total * MIB;
    memory->used = card->used * MIB;
    memory->free = memory->total - memory->used;
    return code;
}

int nvmlDeviceGetPowerUsage(void *handle, unsigned *milliwatts) {
    card_t *card = handle;
    int code = look_at(card);
    *milliwatts = card->power;
    return code != SUCCESS ? code : card->power ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetTemperature(void *handle, int sensor, unsigned *celsius) {
    card_t *card = handle;
    (void)sensor;
    *celsius = card->celsius;
    return look_at(card);
}

int nvmlDeviceGetUtilizationRates(void *handle, utilization_t *rates) {
    card_t *card = handle;
    int code = look_at(card);
    rates->gpu = rates->memory = card->percent;
    return code;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "580.65.06");
    return read_cards();
}

int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    const char *given = getenv("FAKE_CUDA");
    *version = given ? atoi(given) : 13000;
    return read_cards();
}

/* Only the older name, as drivers before 535 have it: the newer one is missed at every call. */
int nvmlDeviceGetCurrentClocksThrottleReasons(void *handle, unsigned long long *reasons) {
    card_t *card = handle;
    int code = look_at(card);
    *reasons = card->reasons;
    return code;
}

int nvmlDeviceGetComputeRunningProcesses_v3(void *handle, unsigned *length, process_t *found) {
    card_t *card = handle;
    int code = look_at(card);
    unsigned room = *length;
    *length = card->processes;
    if (code != SUCCESS) return code;
    if (room < card->processes) return INSUFFICIENT_SIZE;
    for (unsigned i = 0; i < card->processes; i++) found[i] = card->process[i];
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(void *handle, int *major, int *minor) {
    *major = 8;
    *minor = 6;
    return look_at(handle);
}

int nvmlDeviceGetPersistenceMode(void *handle, unsigned *mode) {
    card_t *card = handle;
    int code = look_at(card);
    *mode = card->persistence;
    return code;
}

int nvmlDeviceGetMigMode(void *handle, unsigned *current, unsigned *pending) {
    card_t *card = handle;
    int code = look_at(card);
    *current = *pending = card->mig;
    return code;
}

int nvmlDeviceGetEccMode(void *handle, unsigned *current, unsigned *pending) {
    card_t *card = handle;
    int code = look_at(card);
    *current = *pending = card->ecc;
    return code != SUCCESS ? code : card->ecc ? SUCCESS : NOT_SUPPORTED;
}

int nvmlDeviceGetTotalEccErrors(void *handle, int type, int counter, unsigned long long *errors) {
    card_t *card = handle;
    int code = look_at(card);
    (void)type;
    (void)counter;
    *errors = card->ecc_errors;
    return code != SUCCESS ? code : card->ecc ? SUCCESS : NOT_SUPPORTED;
}
