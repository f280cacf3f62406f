/* An echo server: recvfrom, sendto, one datagram a call. Arguments: HOST PORT BYTES. */

#include "common.h"

int main(int count, char **words) {
    static char buffer[SLOT_BYTES];
    int fd = server_socket(count, words);
    for (;;) {
        struct sockaddr_storage peer;
        socklen_t size = sizeof peer;
        ssize_t length = recvfrom(fd, buffer, sizeof buffer, 0, (struct sockaddr *)&peer, &size);
        if (length >= 0)
            sendto(fd, buffer, length, 0, (struct sockaddr *)&peer, size);
    }
}
