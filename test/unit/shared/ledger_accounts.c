/* A ledger, processes with accounts in it, and what its channel says of the dead. */
#include "ledger_accounts.h"

#include "base/os.h"
#include "ledger_helpers.h"
#include "shared/segment.h"

#include <signal.h>
#include <unistd.h>

static struct shared {
  struct forkq__ledger ledger;
  struct forkq__channel_shared channel;
} * shared;
struct forkq__ledger *ledger;
struct forkq__channel channel; /* over which nothing is sent */
struct forkq__account *const account_here = &channel.account;
struct forkq__liveness *const liveness = &channel.account.liveness;
_Atomic int *flags; /* what children say, and what they wait for */
enum forkq__verdict verdict;
bool reads_settled, die_at_verdict;

static enum forkq__verdict give_verdict(uint32_t cell) {
  support_assert(ledger->cells[cell].pending_seq != 0);
  if (die_at_verdict)
    raise(SIGKILL);
  return verdict;
}

enum forkq__verdict __wrap_forkq__channel_verdict(struct forkq__channel *to,
                                                  uint32_t cell);
enum forkq__verdict __wrap_forkq__channel_verdict(struct forkq__channel *to,
                                                  uint32_t cell) {
  (void)to;
  return give_verdict(cell);
}

enum forkq__verdict __wrap_forkq__channel_try_verdict(struct forkq__channel *to,
                                                      uint32_t cell);
enum forkq__verdict __wrap_forkq__channel_try_verdict(struct forkq__channel *to,
                                                      uint32_t cell) {
  (void)to;
  return give_verdict(cell);
}

bool __wrap_forkq__channel_settle_reads(struct forkq__channel *to);
bool __wrap_forkq__channel_settle_reads(struct forkq__channel *to) {
  (void)to;
  return reads_settled;
}

void set_up(void) {
  forkq__account_init(account_here);
  shared = make_memory(liveness, sizeof *shared);
  ledger = account_here->ledger = &shared->ledger;
  channel.shared = &shared->channel;
  ck_assert_int_eq(forkq__ledger_init(ledger), 0);
  ck_assert_int_eq(forkq__segment_init_channel(channel.shared), 0);
  reads_settled = true;
  flags = support_shared(16 * sizeof *flags);
}

void tear_down(void) {
  drop_memory(liveness, sizeof *shared);
}

bool reap(void) {
  return forkq__reap(&channel);
}

int open_cell(uint32_t *index) {
  int r = forkq__reap_and_claim(&channel);
  if (r == 0)
    *index = account_here->cell;
  return r;
}

bool sees_alive(uint32_t index) {
  return forkq__account_sees_alive(account_here, index);
}

bool give_back(uint32_t index, uint64_t count) {
  if (forkq__ledger_lock(ledger) != 0)
    return false;
  forkq__ledger_give_back(ledger, index, count);
  forkq__ledger_unlock(ledger);
  return true;
}

/* ---- children with a cell ---------------------------------------------------------- */

void keep_account(void *arg) {
  const struct account *account = arg;
  uint32_t index;
  CHILD_MUST(open_cell(&index) == 0);
  CHILD_MUST(index == account->cell);
  struct forkq__cell *cell = &ledger->cells[index];
  atomic_fetch_add(&cell->accepted, account->accepted);
  atomic_fetch_add(&cell->sent, account->sent);
  CHILD_MUST(give_back(index, account->returned));
  atomic_store(&flags[0], 1);
  while (account->stays)
    pause();
}

pid_t start(struct account account) {
  account.stays = true;
  atomic_store(&flags[0], 0);
  pid_t child = support_fork(keep_account, &account);
  support_until(&flags[0]);
  return child;
}

/* ---- processes that die, or stop, in the ledger -------------------------------------- */

struct forkq__cell *dead_in_write(void) {
  struct forkq__cell *cell = &ledger->cells[0];
  ledger->cells_used = 1;
  cell->state = USED;
  cell->accepted = 10;
  cell->sent = 4;
  cell->sent_wire = 1000;
  cell->pending_sent = 7;
  cell->pending_wire = 1300;
  cell->pending_seq = 100;
  return cell;
}

void noop_repair(void *arg) {
  (void)arg;
}

void hold_lock(void *arg) {
  (void)arg;
  CHILD_MUST(forkq__lock_acquire(&ledger->lock, FORKQ__FOREVER, noop_repair, NULL) == 0);
  atomic_store(&flags[0], 1);
  for (;;)
    pause();
}
