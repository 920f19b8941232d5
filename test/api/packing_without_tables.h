/* A frame that cannot be unwound, as those of code that is made at run time, or of C compiled
 * without tables. */
#ifndef FORKQ_TEST_PACKING_WITHOUT_TABLES_H
#define FORKQ_TEST_PACKING_WITHOUT_TABLES_H

void call_without_tables(void (*fn)(void));

#endif
