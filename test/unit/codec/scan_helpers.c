/* Bytes that are scanned. */
#include "scan_helpers.h"

#include "codec/serializer.h"

#include <stdlib.h>
#include <string.h>

uint8_t *copy_of(const void *data, size_t size) {
  uint8_t *copy = calloc(size > 0 ? size : 1, 1);
  if (size > 0)
    memcpy(copy, data, size);
  return copy;
}

int scan_whole(const void *data, size_t size) {
  uint8_t *copy = copy_of(data, size);
  int r = forkq__scan(copy, size, NULL);
  free(copy);
  return r;
}
