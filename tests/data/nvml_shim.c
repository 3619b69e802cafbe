/* A fake libnvidia-ml.so.1: cards from a text file, so that the real pynvml can be tested without a driver.
 *
 * FAKE_NVML names the file, read again at every call. One line a card:
 *     NAME TOTAL_MIB USED_MIB MILLIWATTS CELSIUS PERCENT [lost]
 * Without the file the driver is not loaded.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, DRIVER_NOT_LOADED = 9, GPU_IS_LOST = 15, MOST_CARDS = 16 };
enum { MIB = 1048576 };

typedef struct { char name[64]; unsigned long long total, used; unsigned power, celsius, percent; int lost; } card_t;
typedef struct { unsigned long long total, free, used; } memory_t;
typedef struct { unsigned gpu, memory; } utilization_t;

static card_t cards[MOST_CARDS];
static unsigned count;

static int read_cards(void) {
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    char line[256], state[16];
    if (!file) return DRIVER_NOT_LOADED;
    count = 0;
    while (count < MOST_CARDS && fgets(line, sizeof line, file)) {
        card_t *card = &cards[count];
        state[0] = 0;
        int found = sscanf(line, "%63s %llu %llu %u %u %u %15s", card->name, &card->total, &card->used, &card->power,
                           &card->celsius, &card->percent, state);
        card->lost = strcmp(state, "lost") == 0;
        if (found >= 6) count++;
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
