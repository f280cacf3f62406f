/* An echo server: recvmmsg, sendmmsg, up to 64 datagrams a call. Arguments: HOST PORT BYTES. */

#include "common.h"

static char buffers[SLOTS][SLOT_BYTES];

int main(int count, char **words) {
    static struct sockaddr_storage peers[SLOTS];
    static struct iovec iov[SLOTS];
    static struct mmsghdr messages[SLOTS];
    int fd = server_socket(count, words);
    for (int i = 0; i < SLOTS; i++) {
        iov[i] = (struct iovec){buffers[i], SLOT_BYTES};
        messages[i].msg_hdr = (struct msghdr){
            .msg_name = &peers[i], .msg_namelen = sizeof peers[i], .msg_iov = &iov[i], .msg_iovlen = 1};
    }
    for (;;) {
        int got = recvmmsg(fd, messages, SLOTS, MSG_WAITFORONE, NULL);
        for (int i = 0; i < got; i++)
            iov[i].iov_len = messages[i].msg_len;
        for (int sent = 0; sent < got;) {
            int now = sendmmsg(fd, messages + sent, got - sent, 0);
            sent += now > 0 ? now : 1; /* what cannot be sent is left out */
        }
        for (int i = 0; i < got; i++) {
            iov[i].iov_len = SLOT_BYTES;
            messages[i].msg_hdr.msg_namelen = sizeof peers[i];
        }
    }
}
