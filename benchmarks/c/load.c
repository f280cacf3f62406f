/* The load generator: keeps a window of datagrams in flight to an echo server, or floods one; prints counts as JSON.

   load -h HOST -p PORT [-s SIZE] [-n SOURCES] [-w WINDOW] [-t SECONDS] [-g SEGMENTS] [-c CPU] [-f] [-q]

   -n  1: a connected socket. More, IPv4 only: one socket, whose sources are addresses from 127.0.4.0 on.
   -g  send that many datagrams as one segmented send, and receive coalesced ones.
   -f  flood: send and never read.
   -q  ask a DNS server for www.example.org; any answer of the question's number counts.

   Each datagram starts with the number of its generation. What does not come back in time is given up with its
   generation, and the window is filled anew; an answer that comes later is counted, but makes no room. */

#include "common.h"

#define PATIENCE_US 100000
#define STAMP ((int)sizeof(uint32_t))
#define CONTROL 64

static struct {
    const char *host;
    int port, size, sources, window, segments, cpu, flood, questions;
    double seconds;
} options = {"127.0.0.1", 0, 64, 1, 128, 1, -1, 0, 0, 1.0};

/* After its number and flags, which the stamp is: one question, for www.example.org, A, IN (RFC 1035). */
static const char question[] = "\0\0\0\0\0\1\0\0\0\0\0\0\3www\7example\3org\0\0\1\0\1";

static char received[SLOTS][SLOT_BYTES];
static char received_control[SLOTS][CONTROL], sent_control[SLOTS][CONTROL];
static char payload[SLOT_BYTES];
static struct iovec receive_iov[SLOTS], send_iov;
static struct mmsghdr incoming[SLOTS], outgoing[SLOTS];
static struct sockaddr_storage server;
static socklen_t server_size;
static uint32_t generation;
static long long sent, echoed, wrong, late, lost, timeouts;

static void parse(int count, char **words) {
    for (int letter; (letter = getopt(count, words, "h:p:s:n:w:t:g:c:fq")) != -1;)
        switch (letter) {
        case 'h': options.host = optarg; break;
        case 'p': options.port = atoi(optarg); break;
        case 's': options.size = atoi(optarg); break;
        case 'n': options.sources = atoi(optarg); break;
        case 'w': options.window = atoi(optarg); break;
        case 't': options.seconds = atof(optarg); break;
        case 'g': options.segments = atoi(optarg); break;
        case 'c': options.cpu = atoi(optarg); break;
        case 'f': options.flood = 1; break;
        case 'q': options.questions = 1, options.size = sizeof question - 1; break;
        default: exit(2);
        }
    if (optind < count || options.segments < 1 || options.segments > options.window || options.sources < 1 ||
        options.size < (options.flood ? 0 : STAMP) || options.size * options.segments > 65507) {
        fprintf(stderr, "load: these arguments do not go together\n");
        exit(2);
    }
}

static int open_socket(void) {
    server_size = parse_address(options.host, options.port, &server);
    if (options.sources > 1 && server.ss_family != AF_INET) {
        fprintf(stderr, "load: many sources are for IPv4 alone\n");
        exit(2);
    }
    int fd = bound_socket(server.ss_family == AF_INET6 ? "::" : "0.0.0.0", 0, CLIENT_BYTES);
    struct timeval patience = {0, PATIENCE_US};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    int on = 1;
    if (options.segments > 1 && setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) < 0)
        give_up("UDP_GRO");
    if (options.sources == 1 && connect(fd, (struct sockaddr *)&server, server_size) < 0)
        give_up("connect");
    return fd;
}

static void put_control(struct msghdr *header, char *space, int level, int type, const void *data, size_t size) {
    header->msg_control = space;
    header->msg_controllen = CMSG_SPACE(size);
    struct cmsghdr *control = CMSG_FIRSTHDR(header);
    control->cmsg_level = level;
    control->cmsg_type = type;
    control->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(control), data, size);
}

static void stamp(void) {
    for (int i = 0; i < options.segments && options.size >= STAMP; i++)
        memcpy(payload + i * options.size, &generation, STAMP);
}

static void prepare(void) {
    memset(payload, 'u', sizeof payload);
    if (options.questions)
        memcpy(payload, question, sizeof question);
    stamp();
    send_iov = (struct iovec){payload, options.size * options.segments};
    for (int i = 0; i < SLOTS; i++) {
        receive_iov[i] = (struct iovec){received[i], SLOT_BYTES};
        incoming[i].msg_hdr = (struct msghdr){.msg_iov = &receive_iov[i], .msg_iovlen = 1};
        if (options.segments > 1)
            incoming[i].msg_hdr.msg_control = received_control[i];
        struct msghdr *header = &outgoing[i].msg_hdr;
        *header = (struct msghdr){.msg_iov = &send_iov, .msg_iovlen = 1};
        if (options.sources > 1) {
            struct in_pktinfo any = {0};
            header->msg_name = &server;
            header->msg_namelen = server_size;
            put_control(header, sent_control[i], IPPROTO_IP, IP_PKTINFO, &any, sizeof any);
        } else if (options.segments > 1) {
            uint16_t segment = options.size;
            put_control(header, sent_control[i], SOL_UDP, UDP_SEGMENT, &segment, sizeof segment);
        }
    }
}

static void choose_sources(int count) {
    static unsigned next;
    for (int i = 0; i < count; i++) {
        struct in_pktinfo *info = (struct in_pktinfo *)CMSG_DATA((struct cmsghdr *)sent_control[i]);
        info->ipi_spec_dst.s_addr = htonl(0x7f000401 + next); /* 127.0.4.1 */
        next = (next + 1) % options.sources;
    }
}

/* Send up to `datagrams`, in whole sends; returns how many went. */
static int send_some(int fd, int datagrams) {
    int done = 0;
    while (datagrams - done >= options.segments) {
        int count = (datagrams - done) / options.segments;
        if (count > SLOTS)
            count = SLOTS;
        if (options.sources > 1)
            choose_sources(count);
        int went = sendmmsg(fd, outgoing, count, 0);
        if (went < 0 && errno != ECONNREFUSED && errno != EAGAIN && errno != ENOBUFS && errno != EINTR)
            give_up("sendmmsg");
        if (went > 0)
            done += went * options.segments;
        if (went < count)
            break;
    }
    sent += done;
    return done;
}

/* Count an answer to a question; returns whether it has the generation's number. */
static int count_resolved(int slot) {
    echoed++;
    int current = memcmp(received[slot], &generation, 2) == 0;
    if (!current)
        late++;
    if (incoming[slot].msg_len <= (unsigned)options.size || received[slot][7] != 1) /* one record */
        wrong++;
    return current;
}

/* Count the datagrams of one answer, all those of a coalesced one; returns how many are of this generation. */
static int count_answer(int slot) {
    int length = incoming[slot].msg_len, segment = options.size, current = 0;
    if (options.segments > 1) {
        struct msghdr *header = &incoming[slot].msg_hdr;
        for (struct cmsghdr *control = CMSG_FIRSTHDR(header); control; control = CMSG_NXTHDR(header, control))
            if (control->cmsg_level == SOL_UDP && control->cmsg_type == UDP_GRO && *(int *)CMSG_DATA(control) != segment)
                wrong++;
    }
    if (length == 0 || length % segment)
        wrong++;
    for (int at = 0; at + segment <= length; at += segment) {
        uint32_t its;
        memcpy(&its, received[slot] + at, STAMP);
        echoed++;
        if (its == generation)
            current++;
        else
            late++;
    }
    return current;
}

/* Wait for answers; returns how many of this generation came, -1 if none in time. */
static int receive_some(int fd) {
    if (options.segments > 1)
        for (int i = 0; i < SLOTS; i++)
            incoming[i].msg_hdr.msg_controllen = CONTROL;
    int got = recvmmsg(fd, incoming, SLOTS, MSG_WAITFORONE, NULL), current = 0;
    if (got < 0) {
        if (errno == ECONNREFUSED || errno == EAGAIN || errno == EINTR)
            return -1;
        give_up("recvmmsg");
    }
    for (int i = 0; i < got; i++)
        current += options.questions ? count_resolved(i) : count_answer(i);
    return current;
}

/* Returns when the last answer came. */
static double echo(int fd, double end) {
    int in_flight = 0;
    double at = now(CLOCK_MONOTONIC), last = at;
    while (at < end || in_flight > 0) {
        if (at < end)
            in_flight += send_some(fd, options.window - in_flight);
        int came = receive_some(fd);
        at = now(CLOCK_MONOTONIC);
        if (came >= 0) {
            in_flight -= came;
            last = at;
            continue;
        }
        timeouts++;
        lost += in_flight;
        in_flight = 0;
        generation++;
        stamp();
    }
    return last;
}

static double flood(int fd, double end) {
    double at;
    while ((at = now(CLOCK_MONOTONIC)) < end)
        send_some(fd, SLOTS * options.segments);
    return at;
}

int main(int count, char **words) {
    parse(count, words);
    stay_on(options.cpu);
    int fd = open_socket();
    prepare();
    double begin = now(CLOCK_MONOTONIC);
    double last = (options.flood ? flood : echo)(fd, begin + options.seconds);
    if (!echoed && !wrong && !options.flood) { /* sendmmsg keeps most refusals to itself */
        fprintf(stderr, "load: nobody answers at %s, port %d\n", options.host, options.port);
        return 1;
    }
    printf("{\"sent\": %lld, \"echoed\": %lld, \"lost\": %lld, \"late\": %lld, \"wrong\": %lld, \"timeouts\": %lld, "
           "\"seconds\": %.9f, \"cpu\": %.9f}\n",
           sent, echoed, lost - late, late, wrong, timeouts, last - begin, now(CLOCK_PROCESS_CPUTIME_ID));
    return 0;
}
