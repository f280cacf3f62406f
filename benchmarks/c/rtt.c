/* Round trips under a steady load: sends at a pace, whatever is answered, and prints percentiles as JSON.

   rtt -h HOST -p PORT [-s SIZE] [-n CLIENTS] [-r RATE] [-t SECONDS] [-c CPU]

   -n  as many connected sockets, which send in turn.
   -r  datagrams a second, of all of them together.
   -c  a core of its own: it then never sleeps, so that no round trip has its own waking up in it.

   Each datagram starts with its number. A round trip lasts from the send to when the answer is read. `behind` is how
   much later than at its time a datagram left; that is this program's fault, and in no round trip. */

#include "common.h"
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#define GRACE 0.2 /* seconds that the last answers may take */
#define STAMP ((int)sizeof(uint32_t))

static struct {
    const char *host;
    int port, size, clients, cpu;
    double rate, seconds;
} options = {"127.0.0.1", 0, 64, 50, -1, 1000, 1.0};

static int *sockets, ready;
static uint32_t total, sent, answered, wrong;
static double begin, *sent_at, *trips, *behind;
static char payload[SLOT_BYTES], received[SLOT_BYTES];

static void parse(int count, char **words) {
    for (int letter; (letter = getopt(count, words, "h:p:s:n:r:t:c:")) != -1;)
        switch (letter) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 's': options.size = atoi(optarg); break;
        case 'n': options.clients = atoi(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'c': options.cpu = atoi(optarg); break;
        default: exit(2);
        }
    double datagrams = options.rate * options.seconds;
    if (optind < count || options.clients < 1 || options.size < STAMP || options.size > 65507 || datagrams < 1 ||
        datagrams > 1e8) {
        fprintf(stderr, "rtt: these arguments do not go together\n");
        exit(2);
    }
    total = datagrams;
}

static void open_sockets(void) {
    struct sockaddr_storage server;
    socklen_t size = parse_address(options.host, options.port, &server);
    sockets = calloc(options.clients, sizeof *sockets);
    ready = epoll_create1(0);
    if (!sockets || ready < 0)
        give_up("epoll_create1");
    for (int i = 0; i < options.clients; i++) {
        int fd = bound_socket(server.ss_family == AF_INET6 ? "::" : "0.0.0.0", 0, 0);
        struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
        if (connect(fd, (struct sockaddr *)&server, size) < 0)
            give_up("connect");
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0 || epoll_ctl(ready, EPOLL_CTL_ADD, fd, &event) < 0)
            give_up("epoll_ctl");
        sockets[i] = fd;
    }
}

static double due(uint32_t number) {
    return begin + number / options.rate;
}

static void send_one(uint32_t number) {
    memcpy(payload, &number, STAMP);
    sent_at[number] = now(CLOCK_MONOTONIC);
    behind[number] = sent_at[number] - due(number);
    if (send(sockets[number % options.clients], payload, options.size, 0) < 0 && errno != ECONNREFUSED &&
        errno != EAGAIN && errno != ENOBUFS)
        give_up("send");
}

static void read_answers(int fd) {
    for (ssize_t length; (length = recv(fd, received, sizeof received, 0)) >= 0 || errno == ECONNREFUSED;) {
        double at = now(CLOCK_MONOTONIC);
        uint32_t number = total;
        if (length < 0)
            continue;
        if (length == options.size)
            memcpy(&number, received, STAMP);
        if (number >= sent || trips[number] >= 0)
            wrong++;
        else {
            trips[number] = at - sent_at[number];
            answered++;
        }
    }
}

/* Read what is there, and wait for it until a time where this may sleep. */
static void collect(double until) {
    struct epoll_event events[SLOTS];
    if (options.cpu < 0) {
        double left = until - now(CLOCK_MONOTONIC);
        struct pollfd one = {ready, POLLIN, 0};
        struct timespec patience = {left, (left - (time_t)left) * 1e9};
        if (left > 0 && ppoll(&one, 1, &patience, NULL) < 0 && errno != EINTR)
            give_up("ppoll");
    }
    for (int i = 0, count = epoll_wait(ready, events, SLOTS, 0); i < count; i++)
        read_answers(events[i].data.fd);
}

static void run(void) {
    begin = now(CLOCK_MONOTONIC) + 0.001;
    double end = due(total - 1) + GRACE, at;
    while ((at = now(CLOCK_MONOTONIC)) < end && answered < total) {
        if (sent < total && at >= due(sent)) {
            send_one(sent);
            sent++;
        }
        collect(sent < total ? due(sent) : end);
    }
}

static int compare(const void *one, const void *other) {
    double a = *(const double *)one, b = *(const double *)other;
    return (a > b) - (a < b);
}

/* The value that so large a part of the sorted ones is not above. */
static double percentile(const double *values, uint32_t count, double part) {
    uint32_t index = count * part;
    return values[index < count ? index : count - 1];
}

static void report(void) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < total; i++)
        if (trips[i] >= 0)
            trips[kept++] = trips[i];
    qsort(trips, kept, sizeof *trips, compare);
    qsort(behind, sent, sizeof *behind, compare);
    printf("{\"sent\": %u, \"answered\": %u, \"lost\": %u, \"wrong\": %u, \"p50\": %.9f, \"p99\": %.9f, "
           "\"p999\": %.9f, \"max\": %.9f, \"behind\": %.9f, \"cpu\": %.9f}\n",
           sent, answered, sent - answered, wrong, percentile(trips, kept, 0.5), percentile(trips, kept, 0.99),
           percentile(trips, kept, 0.999), trips[kept - 1], percentile(behind, sent, 0.99),
           now(CLOCK_PROCESS_CPUTIME_ID));
}

int main(int count, char **words) {
    parse(count, words);
    stay_on(options.cpu);
    open_sockets();
    memset(payload, 'u', sizeof payload);
    sent_at = calloc(total, sizeof *sent_at);
    trips = calloc(total, sizeof *trips);
    behind = calloc(total, sizeof *behind);
    if (!sent_at || !trips || !behind)
        give_up("calloc");
    for (uint32_t i = 0; i < total; i++)
        trips[i] = -1;
    run();
    if (!answered) {
        fprintf(stderr, "rtt: nobody answers at %s, port %d\n", options.host, options.port);
        return 1;
    }
    report();
    return 0;
}
