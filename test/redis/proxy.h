/* A proxy between a queue and its server: it cuts connections, or freezes them, at a byte that a test chooses.
 *
 * It is a process of its own, so that a test's descriptors and threads are only the library's. It has one plan at a time,
 * which counts the bytes of all connections from when it was made. */
#ifndef FORKQ_TEST_PROXY_H
#define FORKQ_TEST_PROXY_H

#include <stdbool.h>
#include <stdint.h>

/* For fixtures: a server without a log on disk, and the proxy before it. */
void proxy_start(void);
void proxy_stop(void);

/* A URL of the server, through the proxy, with this query. */
const char *proxy_url(const char *query);

enum proxy_way { TO_SERVER, TO_CLIENT };

/* Plans. cut: where byte `at` would pass, its connection ends, on both sides; what was before it has passed. freeze:
 * nothing passes there any more, and neither side is told. Either happens once. pass: no plan. */
void proxy_cut(enum proxy_way way, uint64_t at);
void proxy_freeze(enum proxy_way way, uint64_t at);
void proxy_pass(void);

/* Whether the plan came to its byte. If so, it is done when this comes back. */
bool proxy_fired(void);

/* How many bytes have passed that way, of those that the plan counts. */
uint64_t proxy_passed(void);

/* New connections end at once, from the plan's end on, or from now on; or no longer. */
void proxy_down_after(void);
void proxy_down(bool is);

/* What was frozen passes now, as far as the two sides are still there. Comes back when it has. */
void proxy_thaw(void);

/* Without a plan: of a million pieces that pass so many are cut in their middle, and so many come late, by up to 2 ms.
 * cuts: how many there were. */
void proxy_random(uint64_t seed, uint32_t cut, uint32_t late);
uint64_t proxy_cuts(void);

#endif
