// The public headers as a C++ program uses them.
#include <cstdlib>
#include <cstring>
#include <forkq.h>

static int pack(msgpack_packer *packer, void *arg) {
  return msgpack_pack_int(packer, *static_cast<int *>(arg));
}

int main() {
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  options.maxsize = 1;
  forkq_queue_t *queue;
  if (forkq_queue_create_with(&queue, &options) != 0)
    return EXIT_FAILURE;
  int number = 42;
  forkq_item_t item = FORKQ_ITEM_INIT;
  bool ok = forkq_queue_put_with(queue, pack, &number, 0) == 0 &&
            forkq_queue_put_with(queue, pack, &number, 0) == FORKQ_FULL &&
            forkq_queue_get(queue, &item, 10000) == 0 &&
            item.object.type == MSGPACK_OBJECT_POSITIVE_INTEGER &&
            item.object.via.u64 == 42 &&
            std::strcmp(forkq_error_name(FORKQ_EMPTY), "FORKQ_EMPTY") == 0;
  char path[8] = "";
  bool hot = false;
  ok = ok && forkq_queue_putf(queue, 0, "{s:s,s:b}", "path", "/a", "hot", true) == 0 &&
       forkq_queue_get(queue, &item, 10000) == 0 &&
       forkq_object_scanf(&item.object, "{s:s,s:b}", "path", path, sizeof path, "hot",
                          &hot) == 0 &&
       std::strcmp(path, "/a") == 0 && hot &&
       forkq_object_at(&item.object, "cold") == nullptr;
  forkq_item_destroy(&item);
  forkq_queue_destroy(queue);
  return ok ? EXIT_SUCCESS : EXIT_FAILURE;
}
