/* An echo server: recvfrom, sendto, one datagram a call. Arguments: HOST PORT. */

#include "common.h"

int main(int count, char **words) {
    static char buffer[SLOT_BYTES];
    if (count != 3)
        return 2;
    int fd = bound_socket(words[1], atoi(words[2]));
    announce(fd);
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        ssize_t length = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &size);
        if (length >= 0)
            sendto(fd, buffer, length, 0, (struct sockaddr *)&peer, size);
    }
}
