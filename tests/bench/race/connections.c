/* A process that holds connections: it opens them, sends, verifies what comes, and measures; see client.c. */

#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    EVENTS = 512, /* taken from epoll at a time */
    READ_BYTES = 1 << 18,
    MAX_HELD = 1 << 17, /* bytes of an unfinished frame or head that a connection may hold */
};

static const uint64_t NOTICE = 1, COMMAND = 2; /* what epoll says instead of a connection's address */
static const uint8_t MASK[4] = {0x37, 0xfa, 0x21, 0x3d}; /* one is as good as another between programs of ours */

enum state { CONNECTING, SHAKING, OPEN };

struct connection {
    int fd;
    uint32_t number;
    enum state state;
    bool busy;         /* its echo has not come */
    uint64_t sequence; /* of its last message */
    uint64_t sent_at;
    uint64_t seen;  /* a bit for each broadcast mod 64, turned when it comes: no bit has to be reset */
    uint64_t count; /* broadcasts that came in this run */
    uint64_t last;  /* number of the last one, to see whether they come in order */
    uint8_t *held;  /* what came of a frame that is not complete, or NULL */
    uint32_t held_bytes;
};

struct worker {
    uint32_t index;
    int epoll, notice, command_fd;
    bool active; /* a command is under way */
    struct command command;
    struct outcome outcome;
    struct connection **connections;
    uint32_t opened, started, wanted, room;
    uint32_t under_way;  /* handshakes, or echoes */
    uint64_t cpu_began, measured_from;
    bool measuring, measured;
    uint64_t next; /* broadcast to send */
    uint8_t frame[MAX_SIZE + 8];
    char expected[MAX_SIZE];
    uint8_t buffer[READ_BYTES + MAX_HELD];
};

static const struct plan *plan;
static struct shared *shared;

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec time;
    clock_gettime(clock, &time);
    return (uint64_t)time.tv_sec * SECOND + (uint64_t)time.tv_nsec;
}

uint64_t now_ns(void) { return clock_ns(CLOCK_MONOTONIC); }

/* --- what a process says when something is wrong ---------------------------------------------------------------- */

static void answer(struct worker *worker)
{
    worker->active = false;
    if (send(worker->command_fd, &worker->outcome, sizeof worker->outcome, MSG_NOSIGNAL) != sizeof worker->outcome)
        _exit(1); /* the parent is gone */
}

/* Tell the parent and end: after a failure no figure of this client is worth anything. */
__attribute__((noreturn, format(printf, 2, 3))) static void fail(struct worker *worker, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(worker->outcome.text, TEXT_BYTES, format, arguments);
    va_end(arguments);
    worker->outcome.failed = true;
    answer(worker);
    _exit(1);
}

/* --- the processor that a process uses while something is measured ---------------------------------------------- */

static void begin_measuring(struct worker *worker, uint64_t now)
{
    worker->measuring = true;
    worker->measured_from = now;
    worker->cpu_began = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

static void finish_measuring(struct worker *worker, uint64_t now)
{
    worker->measured = true;
    worker->outcome.cpu = clock_ns(CLOCK_PROCESS_CPUTIME_ID) - worker->cpu_began;
    worker->outcome.cpu_over = now - worker->measured_from;
}

/* --- latencies -------------------------------------------------------------------------------------------------- */

/* The first 256 places are nanoseconds; from there on each power of two has 128. */
static void record(uint64_t *histogram, uint64_t ns)
{
    uint32_t shift = ns < 256 ? 0 : 56 - (uint32_t)__builtin_clzll(ns);
    uint64_t index = ((uint64_t)shift << 7) + (ns >> shift);
    histogram[index < HISTOGRAM ? index : HISTOGRAM - 1]++;
}

/* --- frames ----------------------------------------------------------------------------------------------------- */

/* A masked frame of *length* bytes; returns its size. */
static uint32_t frame(uint8_t *out, uint8_t opcode, const char *payload, uint32_t length)
{
    uint32_t head = 0;
    out[head++] = 0x80 | opcode;
    if (length < 126) {
        out[head++] = 0x80 | (uint8_t)length;
    } else {
        out[head++] = 0x80 | 126;
        out[head++] = (uint8_t)(length >> 8);
        out[head++] = (uint8_t)length;
    }
    memcpy(out + head, MASK, 4);
    head += 4;
    for (uint32_t index = 0; index < length; index++)
        out[head + index] = (uint8_t)payload[index] ^ MASK[index & 3];
    return head + length;
}

/* A connection has at most one message under way, IN_FLIGHT short ones for broadcasts: they always fit the kernel's
 * buffer, unless the server does not read. */
static void transmit(struct worker *worker, struct connection *connection, const void *data, uint32_t length)
{
    ssize_t sent = send(connection->fd, data, length, MSG_NOSIGNAL);
    if (sent != (ssize_t)length)
        fail(worker, "connection %u took %zd of %u bytes: %s", connection->number, sent, length,
             sent < 0 ? strerror(errno) : "its buffer is full");
}

static void send_text(struct worker *worker, struct connection *connection, const char *payload, uint32_t length)
{
    transmit(worker, connection, worker->frame, frame(worker->frame, 1, payload, length));
}

static void digits(char *out, uint64_t number, uint32_t count)
{
    while (count--) {
        out[count] = (char)('0' + number % 10);
        number /= 10;
    }
}

/* A JSON string of *size* bytes that begins with *number* and *sequence*: "00000012.0000000345.uvw...". */
static void compose(char *out, uint32_t size, uint64_t number, uint64_t sequence)
{
    for (uint32_t index = 0; index < size; index++)
        out[index] = (char)('a' + index % 26);
    out[0] = out[size - 1] = '"';
    digits(out + 1, number, 8);
    out[9] = '.';
    digits(out + 10, sequence, 10);
    out[20] = '.';
}

/* --- connecting ------------------------------------------------------------------------------------------------- */

static void watch(struct worker *worker, int operation, struct connection *connection, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = connection};
    if (epoll_ctl(worker->epoll, operation, connection->fd, &event) < 0)
        fail(worker, "epoll_ctl: %s", strerror(errno));
}

static void open_one(struct worker *worker)
{
    struct connection *connection = calloc(1, sizeof *connection);
    if (connection == NULL)
        fail(worker, "no memory for a connection");
    connection->number = worker->started * plan->processes + worker->index;
    worker->connections[worker->started++] = connection;
    worker->under_way++;
    connection->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (connection->fd < 0)
        fail(worker, "connection %u: no socket: %s", connection->number, strerror(errno));
    int on = 1;
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    /* Each source address has its own 28,000 ports; the port is chosen when the whole pair of ends is known. */
    struct sockaddr_in source = {.sin_family = AF_INET};
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + connection->number % plan->sources);
    if (setsockopt(connection->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) < 0 ||
        bind(connection->fd, (struct sockaddr *)&source, sizeof source) < 0)
        fail(worker, "connection %u: bind: %s", connection->number, strerror(errno));
    int made = connect(connection->fd, (const struct sockaddr *)&plan->server, sizeof plan->server);
    if (made < 0 && errno != EINPROGRESS)
        fail(worker, "connection %u: connect: %s", connection->number, strerror(errno));
    watch(worker, EPOLL_CTL_ADD, connection, EPOLLOUT);
}

static void open_more(struct worker *worker)
{
    while (worker->started < worker->wanted && worker->under_way < worker->command.at_once)
        open_one(worker);
    if (worker->opened == worker->wanted) {
        worker->outcome.ended = now_ns();
        finish_measuring(worker, worker->outcome.ended);
        answer(worker);
    }
}

static void connected(struct worker *worker, struct connection *connection)
{
    int error = 0;
    socklen_t length = sizeof error;
    getsockopt(connection->fd, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error)
        fail(worker, "connection %u: connect: %s", connection->number, strerror(error));
    connection->state = SHAKING;
    watch(worker, EPOLL_CTL_MOD, connection, EPOLLIN);
    transmit(worker, connection, plan->request, plan->request_bytes);
}

/* The head of the answer; returns the bytes it has, 0 while it is not complete. */
static uint32_t shake_hands(struct worker *worker, struct connection *connection, const uint8_t *data, uint32_t length)
{
    const uint8_t *end = memmem(data, length, "\r\n\r\n", 4);
    if (end == NULL)
        return 0;
    uint32_t head = (uint32_t)(end - data) + 4;
    if (length < 12 || memcmp(data, "HTTP/1.1 101", 12) != 0)
        fail(worker, "connection %u: no upgrade: %.*s", connection->number, (int)(length < 200 ? length : 200), data);
    if (memmem(data, head, ACCEPT, sizeof ACCEPT - 1) == NULL)
        fail(worker, "connection %u: the Sec-WebSocket-Accept is wrong", connection->number);
    connection->state = OPEN;
    worker->opened++;
    worker->under_way--;
    open_more(worker);
    return head;
}

/* --- echo ------------------------------------------------------------------------------------------------------- */

static void send_next(struct worker *worker, struct connection *connection, uint64_t now)
{
    char payload[MAX_SIZE];
    compose(payload, worker->command.size, connection->number, ++connection->sequence);
    connection->sent_at = now;
    connection->busy = true;
    send_text(worker, connection, payload, worker->command.size);
}

static void echoed(struct worker *worker, struct connection *connection, const uint8_t *payload, uint32_t length)
{
    const struct command *command = &worker->command;
    char expected[MAX_SIZE];
    compose(expected, command->size, connection->number, connection->sequence);
    if (!connection->busy || length != command->size || memcmp(payload, expected, length) != 0)
        fail(worker, "connection %u: expected %s%.*s, got %.*s (%u bytes)", connection->number,
             connection->busy ? "the echo " : "nothing after ", (int)command->size, expected,
             (int)(length < 100 ? length : 100), payload, length);
    uint64_t now = now_ns();
    connection->busy = false;
    worker->outcome.all++;
    if (now >= command->warm_until && now < command->end) {
        worker->outcome.count++;
        record(shared->histograms[worker->index], now - connection->sent_at);
    }
    if (now < command->end)
        send_next(worker, connection, now);
    else if (--worker->under_way == 0) {
        if (!worker->measured)
            finish_measuring(worker, now);
        answer(worker);
    }
}

static void begin_echo(struct worker *worker)
{
    worker->under_way = worker->opened;
    for (uint32_t index = 0; index < worker->opened; index++)
        send_next(worker, worker->connections[index], now_ns());
    if (worker->opened == 0)
        answer(worker);
}

/* --- broadcast -------------------------------------------------------------------------------------------------- */

/* Process 0: note what is complete, keep IN_FLIGHT under way while there is time, end when all is complete. */
static void advance(struct worker *worker)
{
    const struct command *command = &worker->command;
    uint64_t now = now_ns(), lowest = shared->lowest;
    while (lowest < worker->next &&
           __atomic_load_n(&shared->received[lowest & 63], __ATOMIC_ACQUIRE) == command->count) {
        shared->took[lowest] = now - shared->sent_at[lowest & 63];
        shared->received[lowest & 63] = 0;
        lowest++;
        if (lowest == command->warm) {
            worker->outcome.began = now;
            worker->command.end += now; /* it was a length so far */
            begin_measuring(worker, now);
        }
    }
    __atomic_store_n(&shared->lowest, lowest, __ATOMIC_RELEASE);
    bool on = !worker->measuring || now < worker->command.end;
    while (on && worker->next < lowest + command->in_flight && worker->next < MAX_BROADCASTS) {
        char payload[MAX_SIZE];
        compose(payload, command->size, worker->next, 0);
        shared->sent_at[worker->next & 63] = now_ns();
        worker->next++;
        send_text(worker, worker->connections[0], payload, command->size);
    }
    if (worker->measuring && lowest == worker->next) {
        worker->outcome.ended = now;
        worker->outcome.all = lowest;
        worker->outcome.count = lowest - command->warm;
        finish_measuring(worker, now);
        answer(worker);
    }
}

static void broadcasted(struct worker *worker, struct connection *connection, const uint8_t *payload, uint32_t length)
{
    const struct command *command = &worker->command;
    uint64_t number = 0, lowest = __atomic_load_n(&shared->lowest, __ATOMIC_ACQUIRE);
    for (uint32_t index = 1; index < 9 && index < length; index++)
        number = number * 10 + (uint64_t)(payload[index] - '0');
    if (length != command->size || payload[0] != '"' || memcmp(payload + 9, worker->expected + 9, length - 9) != 0 ||
        number >= lowest + command->in_flight)
        fail(worker, "connection %u: expected a broadcast from %llu on like %.*s, got %.*s (%u bytes)",
             connection->number, (unsigned long long)lowest, (int)command->size, worker->expected,
             (int)(length < 100 ? length : 100), payload, length);
    uint64_t bit = 1ull << (number & 63);
    if (number < lowest || !(connection->seen & bit) != !(number & 64))
        fail(worker, "connection %u: broadcast %llu came twice", connection->number, (unsigned long long)number);
    connection->seen ^= bit;
    connection->count++;
    worker->outcome.reordered += number < connection->last;
    connection->last = number;
    if (__atomic_add_fetch(&shared->received[number & 63], 1, __ATOMIC_ACQ_REL) == command->count) {
        if (worker->index == 0)
            advance(worker);
        else if (eventfd_write(plan->notices[0], 1) < 0)
            fail(worker, "eventfd: %s", strerror(errno));
    }
}

static void begin_broadcast(struct worker *worker)
{
    compose(worker->expected, worker->command.size, 0, 0);
    for (uint32_t index = 0; index < worker->opened; index++)
        worker->connections[index]->seen = worker->connections[index]->count = worker->connections[index]->last = 0;
    if (worker->index == 0) {
        worker->next = 0;
        advance(worker);
    } else {
        begin_measuring(worker, now_ns());
    }
}

/* The other processes learn from the parent that all is complete. */
static void stop(struct worker *worker, uint64_t broadcasts)
{
    for (uint32_t index = 0; index < worker->opened; index++)
        if (worker->connections[index]->count != broadcasts)
            fail(worker, "connection %u has %llu of %llu broadcasts", worker->connections[index]->number,
                 (unsigned long long)worker->connections[index]->count, (unsigned long long)broadcasts);
    finish_measuring(worker, now_ns());
    answer(worker);
}

/* --- what comes ------------------------------------------------------------------------------------------------- */

static void text(struct worker *worker, struct connection *connection, const uint8_t *payload, uint32_t length)
{
    enum kind kind = worker->active ? worker->command.kind : QUIT;
    if (kind == ECHO) {
        echoed(worker, connection, payload, length);
    } else if (kind == BROADCAST) {
        broadcasted(worker, connection, payload, length);
    } else if (kind == ASK && connection->number == 0) {
        worker->outcome.ended = now_ns();
        snprintf(worker->outcome.text, TEXT_BYTES, "%.*s", (int)(length < TEXT_BYTES ? length : TEXT_BYTES), payload);
        answer(worker);
    } else {
        fail(worker, "connection %u: expected nothing, got %.*s (%u bytes)", connection->number,
             (int)(length < 100 ? length : 100), payload, length);
    }
}

/* Handle the complete frames in *data*; returns the bytes used. */
static uint32_t frames(struct worker *worker, struct connection *connection, const uint8_t *data, uint32_t length)
{
    uint32_t position = 0;
    while (length - position >= 2) {
        const uint8_t *at = data + position;
        uint32_t head = 2, payload = at[1];
        if (payload == 126) {
            head = 4;
            if (length - position < head)
                break;
            payload = (uint32_t)at[2] << 8 | at[3];
        } else if (payload > 126) {
            fail(worker, "connection %u: a frame that is masked or longer than 65,535 bytes", connection->number);
        }
        if (length - position < head + payload)
            break;
        position += head + payload;
        if (at[0] == 0x81) {
            text(worker, connection, at + head, payload);
        } else if (at[0] == 0x89 && payload < 126) {
            uint8_t pong[140];
            transmit(worker, connection, pong, frame(pong, 10, (const char *)at + head, payload));
        } else if (at[0] == 0x88) {
            fail(worker, "connection %u was closed with %u", connection->number,
                 payload >= 2 ? (unsigned)(at[head] << 8 | at[head + 1]) : 1005u);
        } else if (at[0] != 0x8a) {
            fail(worker, "connection %u: a frame that begins with %#x", connection->number, at[0]);
        }
    }
    return position;
}

static void readable(struct worker *worker, struct connection *connection)
{
    uint8_t *data = worker->buffer;
    uint32_t length = connection->held_bytes;
    if (length)
        memcpy(data, connection->held, length);
    ssize_t got = recv(connection->fd, data + length, READ_BYTES, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (got <= 0)
        fail(worker, "connection %u ended: %s", connection->number, got < 0 ? strerror(errno) : "end of stream");
    length += (uint32_t)got;
    uint32_t used = 0;
    if (connection->state == SHAKING)
        used = shake_hands(worker, connection, data, length);
    if (connection->state == OPEN)
        used += frames(worker, connection, data + used, length - used);
    uint32_t left = length - used;
    if (left > MAX_HELD)
        fail(worker, "connection %u: %u bytes without an end", connection->number, left);
    if (left) {
        connection->held = realloc(connection->held, left);
        if (connection->held == NULL)
            fail(worker, "no memory for an unfinished frame");
        memcpy(connection->held, data + used, left);
    } else if (connection->held) {
        free(connection->held); /* rare: what is not idle comes whole */
        connection->held = NULL;
    }
    connection->held_bytes = left;
}

/* --- a process -------------------------------------------------------------------------------------------------- */

static void begin(struct worker *worker)
{
    struct command command;
    ssize_t got = read(worker->command_fd, &command, sizeof command);
    if (got != sizeof command)
        _exit(1); /* the parent is gone */
    if (command.kind == STOP) {
        stop(worker, command.count);
        return;
    }
    worker->command = command;
    memset(&worker->outcome, 0, sizeof worker->outcome);
    worker->outcome.began = now_ns();
    worker->active = true;
    worker->measuring = worker->measured = false;
    switch (command.kind) {
    case CONNECT:
        worker->wanted = (command.count + plan->processes - 1 - worker->index) / plan->processes;
        if (worker->wanted > worker->room) {
            worker->connections = realloc(worker->connections, worker->wanted * sizeof *worker->connections);
            if (worker->connections == NULL)
                fail(worker, "no memory for %u connections", worker->wanted);
            worker->room = worker->wanted;
        }
        worker->under_way = 0;
        begin_measuring(worker, worker->outcome.began);
        open_more(worker);
        break;
    case ECHO:
        begin_echo(worker);
        break;
    case BROADCAST:
        begin_broadcast(worker);
        break;
    case ASK:
        if (worker->opened == 0)
            fail(worker, "there is no connection to ask on");
        send_text(worker, worker->connections[0], command.text, (uint32_t)strlen(command.text));
        break;
    default:
        answer(worker);
    }
}

/* What a process was doing when its time was over. */
__attribute__((noreturn)) static void too_late(struct worker *worker)
{
    switch (worker->command.kind) {
    case CONNECT:
        fail(worker, "only %u of %u connections opened in time", worker->opened, worker->wanted);
    case ECHO:
        fail(worker, "%u echoes never came", worker->under_way);
    case BROADCAST:
        fail(worker, "broadcast %llu reached %llu of %u connections in time", (unsigned long long)shared->lowest,
             (unsigned long long)shared->received[shared->lowest & 63], worker->command.count);
    default:
        fail(worker, "no answer in time");
    }
}

/* Milliseconds that epoll may wait, and what is due by the clock. */
static int tick(struct worker *worker)
{
    if (!worker->active)
        return -1;
    uint64_t now = now_ns(), due = worker->command.deadline;
    if (now >= due)
        too_late(worker);
    if (worker->command.kind == ECHO) {
        if (!worker->measuring && now >= worker->command.warm_until)
            begin_measuring(worker, now);
        if (worker->measuring && !worker->measured && now >= worker->command.end)
            finish_measuring(worker, now);
        if (!worker->measured)
            due = worker->measuring ? worker->command.end : worker->command.warm_until;
    }
    return (int)((due - now) / 1000000) + 1;
}

void run(const struct plan *given, uint32_t index, int command_fd)
{
    struct worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL)
        _exit(1);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    worker->index = index;
    plan = given;
    shared = plan->shared;
    worker->command_fd = command_fd;
    worker->notice = plan->notices[index];
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event for_notice = {.events = EPOLLIN, .data.u64 = NOTICE};
    struct epoll_event for_command = {.events = EPOLLIN, .data.u64 = COMMAND};
    if (worker->epoll < 0 || epoll_ctl(worker->epoll, EPOLL_CTL_ADD, worker->notice, &for_notice) < 0 ||
        epoll_ctl(worker->epoll, EPOLL_CTL_ADD, command_fd, &for_command) < 0)
        fail(worker, "epoll: %s", strerror(errno));
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(worker->epoll, events, EVENTS, tick(worker));
        if (count < 0 && errno != EINTR)
            fail(worker, "epoll_wait: %s", strerror(errno));
        for (int at = 0; at < count; at++) {
            if (events[at].data.u64 == COMMAND) {
                begin(worker);
            } else if (events[at].data.u64 == NOTICE) {
                eventfd_t value;
                eventfd_read(worker->notice, &value);
                if (worker->active && worker->command.kind == BROADCAST)
                    advance(worker);
            } else {
                struct connection *connection = events[at].data.ptr;
                if (connection->state == CONNECTING)
                    connected(worker, connection);
                else
                    readable(worker, connection);
            }
        }
    }
}
