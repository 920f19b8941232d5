"""forkq why: each case of its table, with processes that are in it."""

import json
import os
import signal
import subprocess
import tempfile

from stage import ALONE, Scene, can_be_alone, main, output, output_json, refused, soon, until

CASES = output("why", "--cases").split()
walked = set()


def why(pid, case, *texts, blamed=()):
    """Until forkq says of the process that it waits in that case, with those texts, and names those processes and
    no other; and says the same to people. The scene may still be on its way there."""
    last = []

    def look():
        last[:] = [found for found in output_json("why", "--json", pid) if found["case"] == case]
        return [found for found in last if all(text in found["text"] for text in texts)
                and sorted(found["pids"]) == sorted(blamed)
                and f"{pid}, queue {found['name']}: {found['text']}\n" in output("why", pid)]
    try:
        until(look)
    except AssertionError as never:
        raise AssertionError(case, texts, sorted(blamed), last) from never
    walked.add(case)


def of(scene, *roles):
    return [scene.pids[role] for role in roles]


def a_full_queue_that_nobody_reads():
    with Scene("full") as scene:
        why(scene.pids["putter"], "full-unread", "3 of 3 items", "nobody is in a get",
            f"{scene.pids['idler']} (idler)", blamed=of(scene, "actor", "idler"))


def a_full_queue_whose_getters_are_gone():
    with Scene("nogetters") as scene:
        why(scene.pids["putter"], "full-no-reader", "all getters are gone")


def a_full_queue_whose_reader_is_stopped():
    with Scene("fullstopped") as scene:
        why(scene.pids["putter"], "full-reader-stopped", "stopped", blamed=of(scene, "reader"))


def a_full_queue_of_the_dead():
    with Scene("fulldead") as scene:
        why(scene.pids["putter"], "full-dead", "dead processes left unsent",
            blamed=of(scene, "victim"))


def a_full_queue_that_is_read_slowly():
    with Scene("slow") as scene:
        why(scene.pids["putter"], "full-busy", "these are getting", blamed=of(scene, "getter"))


def an_exit_that_nobody_reads():
    with Scene("unread") as scene:
        why(scene.pids["worker"], "unsent-unread", "exit or close waits", "items unsent",
            "the pipe is full", "nobody is in a get", blamed=of(scene, "actor"))


def an_exit_whose_reader_is_stopped():
    with Scene("stopped") as scene:
        worker = scene.pids["worker"]
        why(worker, "unsent-reader-stopped", "exit or close waits",
            f"who reads is stopped: {scene.pids['reader']} (reader)",
            blamed=of(scene, "reader"))


def sending_without_a_reader():
    with Scene("unheard") as scene:
        why(scene.pids["putter"], "unsent-no-reader", "sending waits", "all getters are gone")


def sending_to_a_slow_reader():
    with Scene("unsentslow") as scene:
        why(scene.pids["putter"], "unsent-busy", "sending waits", blamed=of(scene, "getter"))


def an_empty_queue_with_living_putters():
    with Scene("empty") as scene:
        why(scene.pids["getter"], "empty", "the queue is empty",
            f"{scene.pids['putter']} (putter)", blamed=of(scene, "actor", "putter", "second"))


def an_empty_queue_into_which_nobody_puts():
    with Scene("alone") as scene:
        why(scene.pids["getter"], "empty-no-putter", "no other process has the queue")


def items_that_died_with_their_owner():
    with Scene("unnoticed") as scene:
        why(scene.pids["getter"], "empty-dead", "nobody has noticed yet",
            blamed=of(scene, "victim"))


def a_sender_that_is_stopped():
    with Scene("senderstopped") as scene:
        why(scene.pids["getter"], "empty-sender-stopped", "is stopped",
            blamed=of(scene, "putter"))


def a_reader_that_is_stopped_before_the_items():
    with Scene("readerstopped") as scene:
        why(scene.pids["getter"], "empty-reader-stopped", "3 are there", "is stopped",
            blamed=of(scene, "reader"))


def items_that_are_on_their_way():
    with Scene("stopped") as scene:
        # The reader was in its get when it was stopped, and has not seen the items.
        why(scene.pids["reader"], "empty-on-its-way", "900 items are on their way",
            blamed=of(scene, "worker"))
        assert {"case": "stopped", "text": "it is stopped itself"} in output_json(
            "why", "--json", scene.pids["reader"])


def a_shutdown_that_a_stopped_getter_has_not_seen():
    with Scene("shutstopped") as scene:
        why(scene.pids["getter"], "empty-shut", "is shut down")


def a_join_with_missing_task_done():
    with Scene("tasks") as scene:
        why(scene.pids["joiner"], "tasks-worker", "4 tasks are not done",
            f"2 of {scene.pids['worker']} (worker), 2 that nobody has got",
            "needs a forkq_queue_task_done", blamed=of(scene, "worker"))
        os.kill(scene.pids["worker"], signal.SIGSTOP)
        why(scene.pids["joiner"], "tasks-stopped", "which is stopped",
            blamed=of(scene, "worker"))
        # A joiner that is stopped does not notice the death.
        os.kill(scene.pids["joiner"], signal.SIGSTOP)
        os.kill(scene.pids["worker"], signal.SIGKILL)
        why(scene.pids["joiner"], "tasks-dead", "which is dead", blamed=of(scene, "worker"))
        os.kill(scene.pids["joiner"], signal.SIGCONT)
        why(scene.pids["joiner"], "tasks-unread", "2 that nobody has got",
            blamed=of(scene, "actor"))


def locks():
    with Scene("locked") as scene:
        why(scene.pids["waiter"], "lock-busy", "the read lock, which is in use by",
            blamed=of(scene, "owner"))
        os.kill(scene.pids["owner"], signal.SIGSTOP)
        why(scene.pids["waiter"], "lock-stopped", "whose owner is stopped",
            blamed=of(scene, "owner"))
        os.kill(scene.pids["waiter"], signal.SIGSTOP)
        os.kill(scene.pids["owner"], signal.SIGKILL)
        why(scene.pids["waiter"], "lock-dead", "whose owner died")


def a_lock_in_another_pid_namespace():
    if not can_be_alone():
        return
    with Scene("locked", within=ALONE):
        @soon
        def _():
            queue = output_json("show", "--json", "locked")
            assert queue["creator"] == 0 and {p["life"] for p in queue["processes"]} == {"alive"}, queue
            waiter, = [p["pid"] for p in queue["processes"] if p["command"] == "waiter"]
            why(waiter, "lock-busy", "of a process that is not seen")


def a_process_that_may_not_be_traced():
    """Root needs a right to look at a process that hides; others may not at all."""
    without = ["setpriv", "--bounding-set=-sys_ptrace"] if os.getuid() == 0 else []
    with Scene("hidden") as scene:
        for command in ("why", "ls"):
            refused(6, "may not be traced; run forkq as its user, or as root", command,
                    scene.pids["putter"], within=without)
        if without:
            why(scene.pids["putter"], "full-unread", blamed=of(scene, "actor"))


def threads_that_may_not_be_looked_at():
    """As with kernel.yama.ptrace_scope, which is the system's: the file that tells what a thread does is one
    that cannot be read."""
    if os.getuid() != 0 or not can_be_alone():
        return
    with Scene("full") as scene, tempfile.NamedTemporaryFile() as closed:
        putter = scene.pids["putter"]
        why(putter, "full-unread", blamed=of(scene, "actor", "idler"))
        os.chown(closed.name, 65534, 65534)
        os.chmod(closed.name, 0)
        subprocess.run(["mount", "--bind", closed.name, f"/proc/{putter}/task/{putter}/syscall"],
                       check=True)
        without = ["setpriv", "--bounding-set=-dac_override,-dac_read_search"]
        answer, = json.loads(output("why", "--json", putter, within=without))
        assert answer["case"] == "denied" and answer["text"] == (
            "the system does not show what its threads do; run forkq as root, or see "
            "kernel.yama.ptrace_scope; of all processes, 0 calls wait to get, 1 to put, 0 to join"), answer
        processes = json.loads(output("show", "--json", "full", within=without))["processes"]
        known = {process["pid"]: process["waits_known"] for process in processes}
        assert known == {**{pid: True for pid in scene.pids.values()}, putter: False}, known


def who_does_not_wait():
    with Scene("quiet") as scene:
        answer, = output_json("why", "--json", scene.pids["idler"])
        assert answer["case"] == "none", answer
    answer, = output_json("why", "--json", os.getpid())
    assert answer["case"] == "no-queue", answer
    refused(2, "which process?", "why", "x")
    refused(5, "no process", "why", "4194305")


def every_case_was_walked():
    assert set(CASES) == walked, set(CASES) ^ walked


main([a_full_queue_that_nobody_reads, a_full_queue_whose_getters_are_gone,
      a_full_queue_whose_reader_is_stopped, a_full_queue_of_the_dead,
      a_full_queue_that_is_read_slowly, an_exit_that_nobody_reads,
      an_exit_whose_reader_is_stopped, sending_without_a_reader, sending_to_a_slow_reader,
      an_empty_queue_with_living_putters, an_empty_queue_into_which_nobody_puts,
      items_that_died_with_their_owner, a_sender_that_is_stopped,
      a_reader_that_is_stopped_before_the_items, items_that_are_on_their_way,
      a_shutdown_that_a_stopped_getter_has_not_seen, a_join_with_missing_task_done, locks,
      a_lock_in_another_pid_namespace, a_process_that_may_not_be_traced,
      threads_that_may_not_be_looked_at, who_does_not_wait, every_case_was_walked])
