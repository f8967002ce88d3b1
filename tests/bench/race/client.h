/* What the parent (client.c) and the processes that hold the connections (connections.c) have in common. */

#ifndef RACE_CLIENT_H
#define RACE_CLIENT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    MAX_PROCESSES = 16,
    MAX_SIZE = 4096,          /* bytes of a message */
    MIN_SIZE = 24,            /* so that quotes, number and sequence fit */
    MAX_IN_FLIGHT = 32,       /* half of a connection's bits for broadcasts */
    TEXT_BYTES = 512,         /* of an error, a question, an answer */
    MAX_BROADCASTS = 1 << 20, /* of one run */
    HISTOGRAM = 4608,         /* latencies: 128 steps between two powers of two, so 0.8 % exact, up to 2^42 ns */
};

#define SECOND 1000000000ull

enum kind { CONNECT, ECHO, BROADCAST, ASK, STOP, QUIT };

struct command {
    enum kind kind;
    uint64_t begin, warm_until, end, deadline; /* monotonic nanoseconds */
    uint32_t count, at_once, in_flight, warm, size;
    char text[TEXT_BYTES];
};

struct outcome {
    bool failed;
    char text[TEXT_BYTES]; /* the error, or the answer */
    uint64_t began, ended; /* of what is measured */
    uint64_t cpu, cpu_over; /* nanoseconds of processor in that time, and the length of that time */
    uint64_t count, all;   /* measured, and with those before and after it */
    uint64_t reordered;
};

/* What all processes see. */
struct shared {
    uint64_t lowest;               /* first broadcast that somebody has not got */
    uint64_t received[64];         /* how many have got a broadcast, by its number mod 64 */
    uint64_t sent_at[64];
    uint64_t took[MAX_BROADCASTS]; /* nanoseconds from sending a broadcast until all have it */
    uint64_t histograms[MAX_PROCESSES][HISTOGRAM];
};

/* What the parent has set before it starts the processes. */
struct plan {
    uint32_t processes;
    struct sockaddr_in server;
    uint32_t sources;   /* addresses 127.0.0.1 and on that connections come from */
    char request[2048]; /* for the upgrade */
    uint32_t request_bytes;
    int notices[MAX_PROCESSES]; /* event descriptors; the one of process 0 says that a broadcast is complete */
    struct shared *shared;
};

/* The key of every handshake, and the Sec-WebSocket-Accept that belongs to it: RFC 6455 1.3. */
#define KEY "dGhlIHNhbXBsZSBub25jZQ=="
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

uint64_t now_ns(void); /* monotonic */

/* The life of process *index*, which takes commands from, and gives outcomes to, *command_fd*. */
__attribute__((noreturn)) void run(const struct plan *plan, uint32_t index, int command_fd);

#endif
