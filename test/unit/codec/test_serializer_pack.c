/* What is packed: objects of every type come back as they were, and what could not come back is
 * refused. */
#include "codec/serializer.h"
#include "scan_helpers.h"
#include "support.h"

#include <forkq/base.h>
#include <string.h>

static msgpack_object integer(int64_t value) {
  msgpack_object object = { .type = value < 0 ? MSGPACK_OBJECT_NEGATIVE_INTEGER
                                              : MSGPACK_OBJECT_POSITIVE_INTEGER };
  object.via.i64 = value;
  return object;
}

static msgpack_object array_of(msgpack_object *elements, uint32_t count) {
  msgpack_object object = { .type = MSGPACK_OBJECT_ARRAY };
  object.via.array.size = count;
  object.via.array.ptr = elements;
  return object;
}

static msgpack_object map_of(msgpack_object_kv *pairs, uint32_t count) {
  msgpack_object object = { .type = MSGPACK_OBJECT_MAP };
  object.via.map.size = count;
  object.via.map.ptr = pairs;
  return object;
}

static msgpack_object of_type(int type) {
  msgpack_object object;
  memset(&object, 0, sizeof object);
  object.type = (msgpack_object_type)type;
  return object;
}

static msgpack_sbuffer packed;

static void forget_packed(void) {
  msgpack_sbuffer_destroy(&packed);
  msgpack_sbuffer_init(&packed);
}

static int pack(const msgpack_object *object) {
  msgpack_packer packer;
  forget_packed();
  msgpack_packer_init(&packer, &packed, msgpack_sbuffer_write);
  return forkq__pack(&packer, object);
}

static void assert_same_after_unpacking(const msgpack_object *object) {
  ck_assert_int_eq(pack(object), 0);
  msgpack_unpacked unpacked;
  msgpack_unpacked_init(&unpacked);
  ck_assert_int_eq(msgpack_unpack_next(&unpacked, packed.data, packed.size, NULL),
                   MSGPACK_UNPACK_SUCCESS);
  ck_assert(msgpack_object_equal(unpacked.data, *object));
  msgpack_unpacked_destroy(&unpacked);
}

START_TEST(every_type_packs_and_comes_back) {
  msgpack_object all[12] = { of_type(MSGPACK_OBJECT_NIL), of_type(MSGPACK_OBJECT_BOOLEAN),
                             integer(-5), integer(INT64_MAX) };
  all[4] = of_type(MSGPACK_OBJECT_FLOAT32);
  all[4].via.f64 = 0.5;
  all[5] = of_type(MSGPACK_OBJECT_FLOAT64);
  all[5].via.f64 = 0.1;
  all[6] = of_type(MSGPACK_OBJECT_STR);
  all[6].via.str.ptr = "text";
  all[6].via.str.size = 4;
  all[7] = of_type(MSGPACK_OBJECT_BIN);
  all[7].via.bin.ptr = "\0\1";
  all[7].via.bin.size = 2;
  all[8] = of_type(MSGPACK_OBJECT_EXT);
  all[8].via.ext.type = 9;
  all[8].via.ext.ptr = "ext";
  all[8].via.ext.size = 3;
  all[9] = array_of(NULL, 0);
  all[10] = map_of(NULL, 0);
  msgpack_object_kv pair = { integer(1), array_of(all, 3) };
  all[11] = map_of(&pair, 1);
  for (int i = 0; i < 12; i++)
    assert_same_after_unpacking(&all[i]);
  msgpack_object whole = array_of(all, 12);
  assert_same_after_unpacking(&whole);
  forget_packed();
}
END_TEST

START_TEST(unknown_types_are_refused_before_a_byte_is_written) {
  static const int odd[] = { 11, 12, 0x10, 0x20, 0x7f };
  for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
    msgpack_object elements[] = { integer(1), of_type(odd[i]) };
    msgpack_object_kv as_key = { of_type(odd[i]), integer(1) };
    msgpack_object_kv as_value = { integer(1), of_type(odd[i]) };
    msgpack_object in[] = { of_type(odd[i]), array_of(elements, 2), map_of(&as_key, 1),
                            map_of(&as_value, 1) };
    for (int k = 0; k < 4; k++) {
      ck_assert_int_eq(pack(&in[k]), FORKQ_EBADOBJECT);
      ck_assert_uint_eq(packed.size, 0);
    }
  }
}
END_TEST

/* Chains of arrays, of maps by key and of maps by value, in levels[0]. */
static void chain(msgpack_object *levels, msgpack_object_kv *pairs, int depth, int how) {
  levels[depth] = integer(7);
  for (int i = depth; i-- > 0;) {
    pairs[i].key = how == 1 ? levels[i + 1] : integer(1);
    pairs[i].val = how == 1 ? integer(1) : levels[i + 1];
    levels[i] = how == 0 ? array_of(&levels[i + 1], 1) : map_of(&pairs[i], 1);
  }
}

START_TEST(packing_stops_at_the_depth_that_unpacks) {
  msgpack_object levels[41];
  msgpack_object_kv pairs[41];
  for (int how = 0; how < 3; how++) {
    chain(levels, pairs, 32, how);
    ck_assert_int_eq(pack(&levels[0]), 0);
    ck_assert_int_eq(scan_whole(packed.data, packed.size), 0);
    for (int depth = 33; depth <= 40; depth++) {
      chain(levels, pairs, depth, how);
      ck_assert_int_eq(pack(&levels[0]), FORKQ_ETOODEEP);
      ck_assert_uint_eq(packed.size, 0);
    }
  }
  forget_packed();
}
END_TEST

START_TEST(an_object_that_contains_itself_is_too_deep) {
  msgpack_object elements[3];
  msgpack_object array = array_of(elements, 3);
  elements[0] = elements[1] = elements[2] = array;
  ck_assert_int_eq(pack(&array), FORKQ_ETOODEEP);
  msgpack_object_kv pair;
  msgpack_object map = map_of(&pair, 1);
  pair.key = integer(1);
  pair.val = map;
  ck_assert_int_eq(pack(&map), FORKQ_ETOODEEP);
  pair.key = map;
  pair.val = integer(1);
  ck_assert_int_eq(pack(&map), FORKQ_ETOODEEP);
}
END_TEST

static int fail_to_write(void *arg, const char *data, size_t size) {
  (void)data, (void)size;
  return --*(int *)arg < 0 ? -1 : 0;
}

START_TEST(a_failing_write_is_minus_one) {
  msgpack_object elements[] = { integer(1), integer(2) };
  msgpack_object array = array_of(elements, 2);
  for (int writes = 0; writes < 3; writes++) {
    int left = writes;
    msgpack_packer packer;
    msgpack_packer_init(&packer, &left, fail_to_write);
    ck_assert_int_eq(forkq__pack(&packer, &array), -1);
  }
}
END_TEST

int main(void) {
  Suite *suite = suite_create("serializer_pack");
  TCase *packing = tcase_create("pack");
  tcase_add_test(packing, every_type_packs_and_comes_back);
  tcase_add_test(packing, unknown_types_are_refused_before_a_byte_is_written);
  tcase_add_test(packing, packing_stops_at_the_depth_that_unpacks);
  tcase_add_test(packing, an_object_that_contains_itself_is_too_deep);
  tcase_add_test(packing, a_failing_write_is_minus_one);
  suite_add_tcase(suite, packing);
  return support_main(suite);
}
