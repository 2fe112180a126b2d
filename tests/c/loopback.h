/* SPDX-License-Identifier: Apache-2.0 */
/* loopback.h - a real TCP connection, for tests of what sockets can do */
#ifndef TESTS_C_LOOPBACK_H
#define TESTS_C_LOOPBACK_H

/* Both ends of a TCP connection over loopback; fails the test on error. */
void connect_tcp(int fds[2]);

#endif
