/* Each public struct has an INIT that leaves out no field, in C and, by inits.cc, in C++. */
#include <forkq.h>
#include <forkq/loop.h>

extern const size_t inits_sizes[];
const size_t inits_sizes[] = { FORKQ_ALL, FORKQ_SHARED_MAX, FORKQ_SHARED_NONE,
                               FORKQ_MESSAGE_MAX };

void inits(void);
void inits(void) {
  forkq_heap_t heap = FORKQ_HEAP_INIT;
  forkq_item_t item = FORKQ_ITEM_INIT;
  forkq_queue_options_t options = FORKQ_QUEUE_OPTIONS_INIT;
  forkq_bytes_t bytes = FORKQ_BYTES_INIT;
  forkq_queue_stats_t stats = FORKQ_QUEUE_STATS_INIT;
  forkq_handover_t handover = FORKQ_HANDOVER_INIT;
  forkq_wait_entry_t entry = FORKQ_WAIT_ENTRY_INIT;
  forkq_peer_t peer = FORKQ_PEER_INIT;
  forkq_server_options_t server_options = FORKQ_SERVER_OPTIONS_INIT;
  forkq_connect_options_t connect_options = FORKQ_CONNECT_OPTIONS_INIT;
  forkq_process_options_t process_options = FORKQ_PROCESS_OPTIONS_INIT;
  forkq_loop_req_t req = FORKQ_LOOP_REQ_INIT;
  forkq_loop_queue_req_t queue_req = FORKQ_LOOP_QUEUE_REQ_INIT;
  forkq_loop_queue_stats_t queue_stats = FORKQ_LOOP_QUEUE_STATS_INIT;
  (void)heap, (void)item, (void)options, (void)bytes, (void)stats, (void)handover;
  (void)peer, (void)server_options, (void)connect_options;
  (void)process_options, (void)entry, (void)req, (void)queue_req, (void)queue_stats;
}
