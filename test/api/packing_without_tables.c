#include "packing_without_tables.h"

void call_without_tables(void (*fn)(void)) {
  fn();
  __asm__ volatile(""); /* so that it has a frame */
}
