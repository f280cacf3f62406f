/* What the three programs share: addresses, sockets, and how they give up. */

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
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
#define BUFFER_BYTES (4 << 20) /* of each socket: what net.core.rmem_max cuts, it cuts for all alike */

static inline void give_up(const char *doing) {
    fprintf(stderr, "%s: %s\n", doing, strerror(errno));
    exit(1);
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

static inline int bound_socket(const char *host, int port) {
    struct sockaddr_storage address;
    socklen_t size = parse_address(host, port, &address);
    int fd = socket(address.ss_family, SOCK_DGRAM, 0), bytes = BUFFER_BYTES;
    if (fd < 0)
        give_up("socket");
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes);
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    if (bind(fd, (struct sockaddr *)&address, size) < 0)
        give_up("bind");
    return fd;
}

/* Tell whoever started this which port number it is. */
static inline void announce(int fd) {
    struct sockaddr_in6 address;
    socklen_t size = sizeof address;
    if (getsockname(fd, (struct sockaddr *)&address, &size) < 0)
        give_up("getsockname");
    printf("%d\n", ntohs(address.sin6_port)); /* at the same place in both families */
    fflush(stdout);
}
