/* The limit in C: what bare.py does, for information. One thread, epoll, send(); two processes and more share the port.
 *
 *   bare PORT PROCESSES
 *
 * It answers the handshake, finds the ends of short text frames and nothing else. A path that begins with /cast gets
 * each message sent to all connections of such paths, any other path gets its messages back. A client that does not
 * read, or sends anything else than short text frames, is cut off.
 */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

enum { MAX_PROCESSES = 16, MAX_CLIENTS = 1 << 16, HELD_BYTES = 1024, EVENTS = 512, FRAME_BYTES = 65536 };

/* Sec-WebSocket-Accept of the key of RFC 6455 1.3, which is the only one that the client of the race sends. */
static const char KEY[] = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
static const char SWITCHING[] = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                                "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

struct client {
    bool known, open, casts;
    uint32_t held; /* bytes of a head or frame that is not complete */
    uint8_t data[HELD_BYTES];
};

static struct client *clients[MAX_CLIENTS]; /* by descriptor */
static int casting[MAX_CLIENTS], casting_count;
static int others[MAX_PROCESSES], other_count;
static int epoll;

static void die(const char *what)
{
    perror(what);
    exit(1);
}

static void watch(int descriptor)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = descriptor};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) < 0)
        die("epoll_ctl");
}

static void end(int descriptor)
{
    for (int index = 0; index < casting_count; index++)
        if (casting[index] == descriptor)
            casting[index] = casting[--casting_count];
    free(clients[descriptor]);
    clients[descriptor] = NULL;
    close(descriptor);
}

static void cast(const uint8_t *frame, size_t length)
{
    for (int index = 0; index < casting_count; index++)
        if (send(casting[index], frame, length, MSG_NOSIGNAL) != (ssize_t)length)
            end(casting[index--]);
}

static void message(int descriptor, const uint8_t *mask, const uint8_t *payload, uint32_t length)
{
    uint8_t frame[HELD_BYTES];
    uint32_t head = 2;
    frame[0] = 0x81;
    frame[1] = (uint8_t)length;
    if (length > 125) {
        frame[1] = 126;
        frame[2] = (uint8_t)(length >> 8);
        frame[3] = (uint8_t)length;
        head = 4;
    }
    for (uint32_t index = 0; index < length; index++)
        frame[head + index] = payload[index] ^ mask[index & 3];
    if (!clients[descriptor]->casts) {
        if (send(descriptor, frame, head + length, MSG_NOSIGNAL) < 0)
            die("send");
        return;
    }
    for (int index = 0; index < other_count; index++)
        if (send(others[index], frame, head + length, MSG_NOSIGNAL) < 0)
            die("send to another process");
    cast(frame, head + length);
}

static void readable(int descriptor)
{
    struct client *client = clients[descriptor];
    ssize_t got = recv(descriptor, client->data + client->held, HELD_BYTES - client->held, 0);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            end(descriptor);
        return;
    }
    client->held += (uint32_t)got;
    uint32_t position = 0;
    if (!client->open) {
        uint8_t *head_end = memmem(client->data, client->held, "\r\n\r\n", 4);
        bool right = memmem(client->data, client->held, KEY, sizeof KEY - 1) != NULL;
        if (head_end == NULL && client->held < HELD_BYTES)
            return;
        if (head_end == NULL || !right || send(descriptor, SWITCHING, sizeof SWITCHING - 1, MSG_NOSIGNAL) < 0) {
            end(descriptor);
            return;
        }
        position = (uint32_t)(head_end - client->data) + 4;
        client->open = true;
        client->casts = memcmp(client->data, "GET /cast", 9) == 0;
        if (client->casts)
            casting[casting_count++] = descriptor;
    }
    while (client->held - position >= 6) {
        const uint8_t *at = client->data + position;
        uint32_t length = at[1] & 0x7f, head = 2;
        if (length == 126) {
            length = (uint32_t)at[2] << 8 | at[3];
            head = 4;
        }
        if (at[0] != 0x81 || length + head + 4 > HELD_BYTES - 4) {
            end(descriptor);
            return;
        }
        if (client->held - position < head + 4 + length)
            break;
        message(descriptor, at + head, at + head + 4, length);
        if (clients[descriptor] != client)
            return; /* it did not read what was sent to it */
        position += head + 4 + length;
    }
    client->held -= position;
    memmove(client->data, client->data + position, client->held);
}

static void take(int listener)
{
    int on = 1, accepted = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (accepted < 0) {
        if (errno == EAGAIN || errno == ECONNABORTED)
            return;
        die("accept");
    }
    if (accepted >= MAX_CLIENTS || (clients[accepted] = calloc(1, sizeof **clients)) == NULL)
        die("a connection too many");
    setsockopt(accepted, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    watch(accepted);
}

static void serve(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int on = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0 || listen(listener, 4096) < 0)
        die("listen");
    epoll = epoll_create1(0);
    watch(listener);
    for (int index = 0; index < other_count; index++)
        watch(others[index]);
    for (;;) {
        struct epoll_event events[EVENTS];
        int count = epoll_wait(epoll, events, EVENTS, -1);
        for (int index = 0; index < count; index++) {
            int descriptor = events[index].data.fd;
            if (descriptor == listener) {
                take(listener);
            } else if (clients[descriptor] != NULL) {
                readable(descriptor);
            } else {
                static uint8_t frame[FRAME_BYTES];
                ssize_t got = -1;
                for (int other = 0; other < other_count; other++)
                    if (others[other] == descriptor)
                        got = recv(descriptor, frame, sizeof frame, MSG_DONTWAIT);
                if (got == 0)
                    exit(0); /* the other process has ended */
                if (got > 0)
                    cast(frame, (size_t)got);
            }
        }
    }
}

int main(int argc, char **argv)
{
    if (argc != 3) {
        fprintf(stderr, "bare PORT PROCESSES\n");
        return 2;
    }
    int port = atoi(argv[1]), processes = atoi(argv[2]);
    if (port < 1 || processes < 1 || processes > MAX_PROCESSES)
        return 2;
    struct rlimit descriptors;
    getrlimit(RLIMIT_NOFILE, &descriptors);
    descriptors.rlim_cur = descriptors.rlim_max;
    setrlimit(RLIMIT_NOFILE, &descriptors);
    static int ways[MAX_PROCESSES][MAX_PROCESSES];
    for (int one = 0; one < processes; one++) {
        for (int other = 0; other < one; other++) {
            int ends[2];
            if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) < 0)
                die("socketpair");
            ways[one][other] = ends[0];
            ways[other][one] = ends[1];
        }
    }
    int number = 0;
    for (int child = 1; child < processes && number == 0; child++) {
        pid_t pid = fork();
        if (pid < 0)
            die("fork");
        if (pid == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            number = child;
        }
    }
    for (int one = 0; one < processes; one++)
        for (int other = 0; other < processes; other++)
            if (one == number && other != number)
                others[other_count++] = ways[one][other];
            else if (one != other)
                close(ways[one][other]);
    serve(port);
}
