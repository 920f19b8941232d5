#include "serializer.h"

void forkq__scan_begin(struct forkq__scan *scan) {
  scan->skip = 0;
  scan->owed = 1;
  scan->elements = 0;
  scan->length = 0;
  scan->length_left = 0;
  scan->head = 0;
  scan->error = 0;
  scan->depth = 0;
  scan->left[0] = 1;
}

static void open_container(struct forkq__scan *scan, uint64_t elements) {
  if (scan->depth == FORKQ_DEPTH_MAX) {
    scan->error = FORKQ_ETOODEEP;
    return;
  }
  scan->owed += elements;
  scan->elements += elements;
  scan->left[++scan->depth] = elements;
}

/* The bytes of a length or count that follow an object's first byte, 0 for none. */
static uint8_t length_bytes(uint8_t head) {
  switch (head) {
  case 0xc4: /* bin 8 */
  case 0xc7: /* ext 8 */
  case 0xd9: /* str 8 */
    return 1;
  case 0xc5: /* bin, ext, str, array, map 16 */
  case 0xc8:
  case 0xda:
  case 0xdc:
  case 0xde:
    return 2;
  case 0xc6: /* bin, ext, str, array, map 32 */
  case 0xc9:
  case 0xdb:
  case 0xdd:
  case 0xdf:
    return 4;
  default:
    return 0;
  }
}

/* The bytes of a number or fixext that follow its first byte, which is 0xca to 0xd8. */
static uint8_t fixed_bytes(uint8_t head) {
  static const uint8_t bytes[] = { 4, 8, 1, 2, 4, 8, 1, 2, 4, 8, 2, 3, 5, 9, 17 };
  return bytes[head - 0xca];
}

static void begin_object(struct forkq__scan *scan, uint8_t head) {
  scan->left[scan->depth]--;
  scan->owed--;
  if (head <= 0x7f || head >= 0xe0)
    return;
  if (head <= 0x8f) {
    open_container(scan, 2u * (head & 0x0fu));
  } else if (head <= 0x9f) {
    open_container(scan, head & 0x0fu);
  } else if (head <= 0xbf) {
    scan->skip = head & 0x1fu;
  } else if (head == 0xc1) {
    scan->error = FORKQ_EBADOBJECT;
  } else if (head >= 0xca && head <= 0xd8) {
    scan->skip = fixed_bytes(head);
  } else {
    scan->head = head;
    scan->length = 0;
    scan->length_left = length_bytes(head);
  }
}

static void end_length(struct forkq__scan *scan) {
  switch (scan->head) {
  case 0xdc:
  case 0xdd:
    open_container(scan, scan->length);
    break;
  case 0xde:
  case 0xdf:
    open_container(scan, 2 * (uint64_t)scan->length);
    break;
  case 0xc7: /* an ext has a byte for its type before its data */
  case 0xc8:
  case 0xc9:
    scan->skip = (uint64_t)scan->length + 1;
    break;
  default:
    scan->skip = scan->length;
    break;
  }
}

int forkq__scan_feed(struct forkq__scan *scan, const void *data, size_t size) {
  const uint8_t *p = data;
  const uint8_t *end = p + size;
  while (p < end && scan->error == 0) {
    uint64_t bytes_left = (uint64_t)(end - p);
    if (scan->skip > 0) {
      uint64_t n = scan->skip < bytes_left ? scan->skip : bytes_left;
      scan->skip -= n;
      p += n;
    } else if (scan->length_left > 0) {
      scan->length = scan->length << 8 | *p++;
      if (--scan->length_left == 0)
        end_length(scan);
    } else if (scan->owed == 0) {
      scan->error = FORKQ_EBADOBJECT;
    } else {
      while (scan->left[scan->depth] == 0)
        scan->depth--;
      begin_object(scan, *p++);
    }
  }
  return scan->error;
}

int forkq__scan_end(const struct forkq__scan *scan) {
  if (scan->error != 0)
    return scan->error;
  bool complete = scan->owed == 0 && scan->skip == 0 && scan->length_left == 0;
  return complete ? 0 : FORKQ_EBADOBJECT;
}

/* ---- all at once ------------------------------------------------------------------------- */

static uint32_t big_endian(const uint8_t *bytes, uint8_t count) {
  switch (count) {
  case 1:
    return bytes[0];
  case 2:
    return (uint32_t)bytes[0] << 8 | bytes[1];
  case 4:
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 |
           bytes[3];
  default:
    return 0;
  }
}

/* An object's beginning. */
struct start {
  uint64_t skip;     /* bytes of its own behind what was read */
  uint64_t elements; /* objects in it */
  bool container;
};

/* Reads an object's first byte, 0x80 to 0xdf, and its length if it has one; NULL if that is
 * not all there. */
static const uint8_t *read_start(const uint8_t *p, const uint8_t *end,
                                 struct start *ret_start) {
  uint8_t head = *p++;
  *ret_start = (struct start){ 0 };
  if (head <= 0x9f) {
    ret_start->container = true;
    ret_start->elements = head <= 0x8f ? 2u * (head & 0x0fu) : head & 0x0fu;
    return p;
  }
  if (head <= 0xbf) {
    ret_start->skip = head & 0x1fu;
    return p;
  }
  if (head >= 0xca && head <= 0xd8) {
    ret_start->skip = fixed_bytes(head);
    return p;
  }
  uint8_t count = length_bytes(head);
  if (head == 0xc1 || end - p < count)
    return NULL;
  uint32_t length = big_endian(p, count);
  if (head >= 0xdc) {
    ret_start->container = true;
    ret_start->elements = head >= 0xde ? 2 * (uint64_t)length : length;
  } else {
    ret_start->skip = (uint64_t)length + (head >= 0xc7 && head <= 0xc9 ? 1 : 0);
  }
  return p + count;
}

int forkq__scan(const void *data, size_t size, uint64_t *ret_elements) {
  const uint8_t *p = data;
  const uint8_t *end = p + size;
  uint64_t outer[FORKQ_DEPTH_MAX]; /* objects owed in the containers around this one */
  int depth = 0;
  uint64_t left = 1, owed = 1,
           elements = 0; /* owed: here; in all; in containers so far */
  for (;;) {
    while (left == 0 && depth > 0)
      left = outer[--depth];
    if (left == 0)
      break;
    if (p == end)
      return FORKQ_EBADOBJECT;
    left--;
    owed--;
    if (*p <= 0x7f || *p >= 0xe0) {
      p++;
      continue;
    }
    struct start start;
    p = read_start(p, end, &start);
    if (p == NULL || start.skip > (uint64_t)(end - p))
      return FORKQ_EBADOBJECT;
    p += start.skip;
    if (!start.container)
      continue;
    if (depth == FORKQ_DEPTH_MAX)
      return FORKQ_ETOODEEP;
    outer[depth++] = left;
    left = start.elements;
    owed += left;
    elements += left;
    if (owed > (uint64_t)(end - p))
      return FORKQ_EBADOBJECT;
  }
  if (p != end)
    return FORKQ_EBADOBJECT;
  if (ret_elements != NULL)
    *ret_elements = elements;
  return 0;
}

/* Depth and types are checked before msgpack-c packs, which recurses without a limit. This
 * recursion ends at FORKQ_DEPTH_MAX. */
static int check_object(const msgpack_object *object, int depth) {
  int r = 0;
  switch (object->type) {
  case MSGPACK_OBJECT_ARRAY:
    if (depth == FORKQ_DEPTH_MAX)
      return FORKQ_ETOODEEP;
    for (uint32_t i = 0; i < object->via.array.size && r == 0; i++)
      r = check_object(&object->via.array.ptr[i], depth + 1);
    return r;
  case MSGPACK_OBJECT_MAP:
    if (depth == FORKQ_DEPTH_MAX)
      return FORKQ_ETOODEEP;
    for (uint32_t i = 0; i < object->via.map.size && r == 0; i++) {
      r = check_object(&object->via.map.ptr[i].key, depth + 1);
      if (r == 0)
        r = check_object(&object->via.map.ptr[i].val, depth + 1);
    }
    return r;
  case MSGPACK_OBJECT_NIL:
  case MSGPACK_OBJECT_BOOLEAN:
  case MSGPACK_OBJECT_POSITIVE_INTEGER:
  case MSGPACK_OBJECT_NEGATIVE_INTEGER:
  case MSGPACK_OBJECT_FLOAT32:
  case MSGPACK_OBJECT_FLOAT64:
  case MSGPACK_OBJECT_STR:
  case MSGPACK_OBJECT_BIN:
  case MSGPACK_OBJECT_EXT:
    return 0;
  default:
    return FORKQ_EBADOBJECT;
  }
}

int forkq__pack(msgpack_packer *packer, const msgpack_object *object) {
  int r = check_object(object, 0);
  if (r != 0)
    return r;
  return msgpack_pack_object(packer, *object) == 0 ? 0 : -1;
}
