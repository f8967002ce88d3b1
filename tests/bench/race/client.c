/* The client of the race: many WebSocket connections at as little cost as a client can have.
 *
 * Processes (`--processes`, each with its own descriptors) share the connections; connection n belongs to process
 * n % P. The parent reads commands from its standard input, one a line, gives each to the processes, and prints one
 * line of JSON for each:
 *
 *   connect N AT_ONCE          open connections until there are N, with at most AT_ONCE handshakes under way
 *   echo SECONDS WARM SIZE     every connection has one message under way; the next leaves when its echo has come
 *   broadcast SECONDS WARM IN_FLIGHT SIZE
 *                              connection 0 sends messages that the server sends to all; IN_FLIGHT are on their way
 *                              at most; WARM of them come before what is measured; at the end everybody has them all
 *   ask TEXT                   connection 0 sends TEXT and waits for one message; for single answers
 *   quit                       says what went wrong since the last command, if anything
 *
 * Between commands the connections are idle: pings are answered, anything else is a failure. What comes is verified to
 * the last byte: an echo is what that connection sent last, a broadcast has its number and comes exactly once, the
 * 101 has the Sec-WebSocket-Accept that belongs to the key. On the first failure `{"error": ...}` is printed and the
 * client ends with 1. A command that takes longer than it may (its own length and `--patience`) is a failure, too,
 * which says how far it came: this is how lost frames are noticed.
 *
 * Messages are text and valid JSON (a string in quotes), since one of the servers accepts nothing else. Frames from
 * the server are expected as RFC 6455 has them: unmasked, unfragmented, without extensions.
 */

#define _GNU_SOURCE
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static struct plan plan = {.processes = 1, .sources = 8, .server = {.sin_family = AF_INET}};
static int workers[MAX_PROCESSES];
static struct outcome outcomes[MAX_PROCESSES];
static uint64_t patience = 20 * SECOND;

/* --- latencies, as connections.c records them ------------------------------------------------------------------- */

static double value_of(uint32_t index)
{
    uint32_t shift = index < 256 ? 0 : (index >> 7) - 1;
    return ((double)(index - (shift << 7)) + 0.5) * (double)(1ull << shift);
}

/* The value below which *share* of the recorded ones lie. */
static double quantile(const uint64_t *histogram, double share)
{
    uint64_t total = 0, below = 0;
    for (uint32_t index = 0; index < HISTOGRAM; index++)
        total += histogram[index];
    for (uint32_t index = 0; index < HISTOGRAM; index++) {
        below += histogram[index];
        if (below && (double)below >= share * (double)total)
            return value_of(index);
    }
    return 0;
}

/* --- the processes ---------------------------------------------------------------------------------------------- */

static void print_string(const char *text)
{
    putchar('"');
    for (const char *at = text; *at; at++) {
        if (*at == '"' || *at == '\\')
            printf("\\%c", *at);
        else if ((unsigned char)*at < ' ' || (unsigned char)*at > '~')
            printf("\\u%04x", (unsigned char)*at);
        else
            putchar(*at);
    }
    putchar('"');
}

__attribute__((noreturn, format(printf, 1, 2))) static void give_up(const char *format, ...)
{
    char message[TEXT_BYTES * 2];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    printf("{\"error\": ");
    print_string(message);
    printf("}\n");
    fflush(stdout);
    exit(1);
}

static void take(uint32_t index)
{
    ssize_t got = read(workers[index], &outcomes[index], sizeof outcomes[index]);
    if (got != sizeof outcomes[index])
        give_up("a process of the client is gone");
    if (outcomes[index].failed)
        give_up("%s", outcomes[index].text);
}

static void order(uint32_t index, const struct command *command)
{
    if (send(workers[index], command, sizeof *command, MSG_NOSIGNAL) != sizeof *command)
        take(index); /* it has ended, and said why */
}

/* Give a command to the processes and await what each answers. In a broadcast the first ends it for all, and is told
 * last: what it sends must not reach a process that does not expect it yet. */
static void carry_out(const struct command *command, uint32_t asked)
{
    bool done[MAX_PROCESSES] = {false};
    for (uint32_t index = asked; index-- > 0;)
        order(index, command);
    for (uint32_t left = asked; left;) {
        struct pollfd wanted[MAX_PROCESSES];
        for (uint32_t index = 0; index < plan.processes; index++)
            wanted[index] = (struct pollfd){.fd = workers[index], .events = POLLIN};
        /* They notice a deadline themselves; a second later they must have said so. */
        uint64_t now = now_ns(), due = command->deadline + SECOND;
        int ready = poll(wanted, plan.processes, due > now ? (int)((due - now) / 1000000) : 0);
        if (ready < 0 && errno != EINTR)
            give_up("poll: %s", strerror(errno));
        if (ready == 0)
            give_up("a process of the client does not answer");
        for (uint32_t index = 0; ready > 0 && index < plan.processes; index++) {
            if (!wanted[index].revents)
                continue;
            take(index);
            if (!done[index]) {
                done[index] = true;
                left--;
            }
            if (command->kind == BROADCAST && index == 0) {
                struct command end = *command;
                end.kind = STOP;
                end.count = (uint32_t)outcomes[0].all;
                for (uint32_t other = 1; other < plan.processes; other++)
                    order(other, &end);
            }
        }
    }
}

static void print_cpu(void)
{
    printf(", \"cpu\": [");
    for (uint32_t index = 0; index < plan.processes; index++)
        printf("%s%.3f", index ? ", " : "",
               outcomes[index].cpu_over ? (double)outcomes[index].cpu / (double)outcomes[index].cpu_over : 0.0);
    printf("]}\n");
}

static int ascending(const void *one, const void *other)
{
    uint64_t a = *(const uint64_t *)one, b = *(const uint64_t *)other;
    return a < b ? -1 : a > b;
}

static uint32_t connections;

static void do_connect(struct command *command, uint32_t count, uint32_t at_once)
{
    if (count < connections || at_once < plan.processes)
        give_up("connect: at least as many connections as there are, at least one handshake for each process");
    command->count = count;
    command->at_once = at_once / plan.processes;
    carry_out(command, plan.processes);
    uint64_t began = UINT64_MAX, ended = 0;
    for (uint32_t index = 0; index < plan.processes; index++) {
        began = outcomes[index].began < began ? outcomes[index].began : began;
        ended = outcomes[index].ended > ended ? outcomes[index].ended : ended;
    }
    double seconds = (double)(ended - began) / 1e9;
    uint32_t opened = count - connections;
    printf("{\"connections\": %u, \"opened\": %u, \"seconds\": %.6f, \"per_s\": %.1f", count, opened, seconds,
           opened / seconds);
    print_cpu();
    connections = count;
}

static void do_echo(struct command *command, double seconds, double warm, uint32_t size)
{
    command->size = size;
    command->warm_until = command->begin + (uint64_t)(warm * 1e9);
    command->end = command->warm_until + (uint64_t)(seconds * 1e9);
    command->deadline = command->end + patience;
    memset(plan.shared->histograms, 0, sizeof plan.shared->histograms);
    carry_out(command, plan.processes);
    uint64_t *sum = plan.shared->histograms[0], count = outcomes[0].count, all = outcomes[0].all;
    for (uint32_t index = 1; index < plan.processes; index++) {
        count += outcomes[index].count;
        all += outcomes[index].all;
        for (uint32_t at = 0; at < HISTOGRAM; at++)
            sum[at] += plan.shared->histograms[index][at];
    }
    printf("{\"round_trips\": %llu, \"all\": %llu, \"per_s\": %.1f, \"p50_us\": %.2f, \"p90_us\": %.2f, "
           "\"p99_us\": %.2f, \"max_us\": %.2f",
           (unsigned long long)count, (unsigned long long)all, (double)count / seconds, quantile(sum, 0.5) / 1e3,
           quantile(sum, 0.9) / 1e3, quantile(sum, 0.99) / 1e3, quantile(sum, 1) / 1e3);
    print_cpu();
}

static void do_broadcast(struct command *command, double seconds, uint32_t warm, uint32_t in_flight, uint32_t size)
{
    if (warm < 1 || in_flight < 1 || in_flight > MAX_IN_FLIGHT || connections < 1)
        give_up("broadcast: at least one before those measured, 1 to %d in flight, a connection", MAX_IN_FLIGHT);
    command->size = size;
    command->warm = warm;
    command->in_flight = in_flight;
    command->count = connections;
    command->end = (uint64_t)(seconds * 1e9); /* from the moment on when the warm ones are complete */
    command->deadline = command->begin + command->end + patience;
    plan.shared->lowest = 0;
    memset(plan.shared->received, 0, sizeof plan.shared->received);
    carry_out(command, plan.processes);
    const struct outcome *first = &outcomes[0];
    uint64_t count = first->count, reordered = 0;
    for (uint32_t index = 0; index < plan.processes; index++)
        reordered += outcomes[index].reordered;
    uint64_t *took = plan.shared->took + warm;
    qsort(took, count, sizeof *took, ascending);
    double length = (double)(first->ended - first->began) / 1e9;
    printf("{\"connections\": %u, \"broadcasts\": %llu, \"all\": %llu, \"seconds\": %.6f, \"frames_per_s\": %.1f, "
           "\"complete_p50_ms\": %.3f, \"complete_max_ms\": %.3f, \"reordered\": %llu",
           connections, (unsigned long long)count, (unsigned long long)first->all, length,
           (double)count * connections / length, count ? (double)took[count / 2] / 1e6 : 0.0,
           count ? (double)took[count - 1] / 1e6 : 0.0, (unsigned long long)reordered);
    print_cpu();
}

static void do_ask(struct command *command, const char *question)
{
    snprintf(command->text, TEXT_BYTES, "%s", question);
    carry_out(command, 1);
    printf("{\"us\": %.2f, \"answer\": ", (double)(outcomes[0].ended - outcomes[0].began) / 1e3);
    print_string(outcomes[0].text);
    printf("}\n");
}

static bool permitted(uint32_t size) { return size >= MIN_SIZE && size <= MAX_SIZE; }

static void obey(const char *line)
{
    static struct command command;
    memset(&command, 0, sizeof command);
    command.begin = now_ns();
    command.deadline = command.begin + patience;
    double seconds, warm;
    uint32_t count, at_once, size, in_flight;
    char question[TEXT_BYTES];
    if (sscanf(line, "connect %u %u", &count, &at_once) == 2) {
        command.kind = CONNECT;
        do_connect(&command, count, at_once);
    } else if (sscanf(line, "echo %lf %lf %u", &seconds, &warm, &size) == 3 && permitted(size)) {
        command.kind = ECHO;
        do_echo(&command, seconds, warm, size);
    } else if (sscanf(line, "broadcast %lf %u %u %u", &seconds, &count, &in_flight, &size) == 4 && permitted(size)) {
        command.kind = BROADCAST;
        do_broadcast(&command, seconds, count, in_flight, size);
    } else if (sscanf(line, "ask %511[^\n]", question) == 1) {
        command.kind = ASK;
        do_ask(&command, question);
    } else if (strncmp(line, "quit", 4) == 0) {
        command.kind = QUIT;
        carry_out(&command, plan.processes);
        printf("{\"quit\": true}\n");
        fflush(stdout);
        exit(0);
    } else {
        give_up("cannot be understood, or a size out of %d to %d: %s", MIN_SIZE, MAX_SIZE, line);
    }
    fflush(stdout);
}

int main(int argc, char **argv)
{
    uint32_t port = 0;
    const char *path = NULL;
    for (int at = 1; at + 1 < argc; at += 2) {
        if (strcmp(argv[at], "--port") == 0)
            port = (uint32_t)atoi(argv[at + 1]);
        else if (strcmp(argv[at], "--path") == 0)
            path = argv[at + 1];
        else if (strcmp(argv[at], "--processes") == 0)
            plan.processes = (uint32_t)atoi(argv[at + 1]);
        else if (strcmp(argv[at], "--sources") == 0)
            plan.sources = (uint32_t)atoi(argv[at + 1]);
        else if (strcmp(argv[at], "--patience") == 0)
            patience = (uint64_t)(atof(argv[at + 1]) * 1e9);
        else
            give_up("no such option: %s", argv[at]);
    }
    if (port == 0 || port > 65535 || path == NULL || plan.processes < 1 || plan.processes > MAX_PROCESSES ||
        plan.sources < 1 || plan.sources > 200)
        give_up("--port PORT --path PATH [--processes 1..%d] [--sources 1..200] [--patience SECONDS]", MAX_PROCESSES);
    plan.server.sin_port = htons((uint16_t)port);
    plan.server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int length = snprintf(plan.request, sizeof plan.request,
                          "GET %s HTTP/1.1\r\nHost: 127.0.0.1:%u\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                          "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\n\r\n",
                          path, port, KEY);
    if (length >= (int)sizeof plan.request)
        give_up("the path is too long");
    plan.request_bytes = (uint32_t)length;
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    plan.shared = mmap(NULL, sizeof *plan.shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (plan.shared == MAP_FAILED)
        give_up("mmap: %s", strerror(errno));
    for (uint32_t index = 0; index < plan.processes; index++)
        if ((plan.notices[index] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC)) < 0)
            give_up("eventfd: %s", strerror(errno));
    for (uint32_t index = 0; index < plan.processes; index++) {
        int ends[2];
        /* Packets, so that a command or an outcome is read whole. */
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) < 0)
            give_up("socketpair: %s", strerror(errno));
        pid_t child = fork();
        if (child < 0)
            give_up("fork: %s", strerror(errno));
        if (child == 0) {
            close(ends[0]);
            for (uint32_t other = 0; other < index; other++)
                close(workers[other]);
            run(&plan, index, ends[1]);
        }
        close(ends[1]);
        workers[index] = ends[0];
    }
    char line[TEXT_BYTES + 64];
    while (fgets(line, sizeof line, stdin))
        obey(line);
    return 0; /* whoever gave the commands is gone; the processes end with us */
}
