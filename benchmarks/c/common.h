/* What the programs share: addresses, sockets, clocks, and how they give up. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#ifndef SOL_UDP
#define SOL_UDP 17
#endif
#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif

#define SLOTS 64
#define SLOT_BYTES 65536
#define CLIENT_BYTES (4 << 20) /* of a client's receive buffer: it must lose nothing of what a server answers */

static inline void give_up(const char *doing) {
    fprintf(stderr, "%s: %s\n", doing, strerror(errno));
    exit(1);
}

static inline double now(clockid_t clock) {
    struct timespec at;
    clock_gettime(clock, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

/* Run on this core alone; anywhere where it is below 0. */
static inline void stay_on(int cpu) {
    cpu_set_t cpus;
    if (cpu < 0)
        return;
    CPU_ZERO(&cpus);
    CPU_SET(cpu, &cpus);
    if (sched_setaffinity(0, sizeof cpus, &cpus) < 0)
        give_up("sched_setaffinity");
}

/* A socket address from a literal; returns its size. */
static inline socklen_t parse_address(const char *host, int port, struct sockaddr_storage *address) {
    memset(address, 0, sizeof *address);
    struct sockaddr_in *v4 = (struct sockaddr_in *)address;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)address;
    if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
        v4->sin_family = AF_INET;
        v4->sin_port = htons(port);
        return sizeof *v4;
    }
    if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
        v6->sin6_family = AF_INET6;
        v6->sin6_port = htons(port);
        return sizeof *v6;
    }
    fprintf(stderr, "%s is not an address\n", host);
    exit(2);
}

/* A bound socket with a receive buffer of so many bytes; 0 leaves it as the kernel makes it. */
static inline int bound_socket(const char *host, int port, int bytes) {
    struct sockaddr_storage address;
    socklen_t size = parse_address(host, port, &address);
    int fd = socket(address.ss_family, SOCK_DGRAM, 0);
    if (fd < 0)
        give_up("socket");
    if (bytes && setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes) < 0)
        give_up("SO_RCVBUF");
    if (bind(fd, (struct sockaddr *)&address, size) < 0)
        give_up("bind");
    return fd;
}

/* A server's socket, from HOST PORT BYTES. It tells whoever started it which port number it has. */
static inline int server_socket(int count, char **words) {
    struct sockaddr_in6 address;
    socklen_t size = sizeof address;
    if (count != 4)
        exit(2);
    int fd = bound_socket(words[1], atoi(words[2]), atoi(words[3]));
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        give_up("getsockname");
    printf("listening on %s:%d/udp\n", words[1], ntohs(address.sin6_port)); /* at the same place in both families */
    fflush(stdout);
    return fd;
}
