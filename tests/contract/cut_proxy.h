/* SPDX-License-Identifier: Apache-2.0 */
/* cut_proxy: passes TCP connections on to a server on loopback, on a thread of its own, and cuts
 * one (a reset) once so many bytes have gone one way in all. One at a time in a process. */
#ifndef TIDE_TESTS_CONTRACT_CUT_PROXY_H
#define TIDE_TESTS_CONTRACT_CUT_PROXY_H

#include <netinet/in.h>

/* Begins to pass on to *address, which becomes the proxy's own. */
void cut_proxy_open(struct sockaddr_in *address);
/* From now on: cuts once after so many bytes to the server, and once after so many from it;
 * negative: does not. */
void cut_proxy_arm(long up, long down);
unsigned cut_proxy_cuts(void); /* made so far */
void cut_proxy_close(void);

#endif
