/* Bytes that are scanned. */
#ifndef FORKQ_TEST_SCAN_HELPERS_H
#define FORKQ_TEST_SCAN_HELPERS_H

#include <stddef.h>
#include <stdint.h>

/* A copy that ends where its memory ends, so that a sanitizer sees a read behind it; the caller
 * frees it. */
uint8_t *copy_of(const void *data, size_t size);

/* What the scan says of all of them at once. */
int scan_whole(const void *data, size_t size);

#endif
