/* A ledger, processes with accounts in it, and what its channel says of the dead. */
#ifndef FORKQ_TEST_LEDGER_ACCOUNTS_H
#define FORKQ_TEST_LEDGER_ACCOUNTS_H

#include "pipe/reap.h"
#include "support.h"

#define FREE FORKQ__CELL_FREE
#define USED FORKQ__CELL_USED
#define DEAD FORKQ__CELL_DEAD

/* Made anew for each test of a case. */
extern struct forkq__ledger *ledger;
extern struct forkq__channel channel; /* over which nothing is sent */
extern struct forkq__account *const account_here;
extern struct forkq__liveness *const liveness;
extern _Atomic int *flags; /* what children say, and what they wait for */

/* What the channel says of the dead: whether the packet that such a process was writing came, and
 * whether what it got is counted. Or whoever asks dies. */
extern enum forkq__verdict verdict;
extern bool reads_settled, die_at_verdict;

void set_up(void);
void tear_down(void);

bool reap(void);

/* The cell of this process, if it can have one: else *index is as it was. */
int open_cell(uint32_t *index);
bool sees_alive(uint32_t index);

/* As the cell's owner does. */
bool give_back(uint32_t index, uint64_t count);

/* ---- children with a cell ---------------------------------------------------------- */

/* What a child's account shall say. */
struct account {
  uint32_t cell;
  uint64_t accepted;
  uint64_t sent;
  uint64_t returned;
  bool stays;
};

void keep_account(void *arg);
pid_t start(struct account account);

/* ---- processes that die, or stop, in the ledger -------------------------------------- */

/* The fields of cell 0 are set as a dead process leaves them; nobody holds the cell's life. It had
 * accepted 10, sent 4, and was writing packet 100 with 3 of the others. */
struct forkq__cell *dead_in_write(void);

/* In a child: it takes the ledger's lock, says so by the first flag, and keeps it. */
void hold_lock(void *arg);
void noop_repair(void *arg);

#endif
