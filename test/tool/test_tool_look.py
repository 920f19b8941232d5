"""forkq ls, show, doctor and metrics: what they say of queues, and of what is none."""

import os
import re
import signal
import subprocess

from stage import Scene, main, output, output_json, refused, root, run, soon, tool, until


def only_queue(pid):
    queues = output_json("ls", "--json", pid)
    assert len(queues) == 1, queues
    return queues[0]


def ls_has_the_numbers():
    with Scene("quiet") as scene:
        queue = only_queue(scene.pids["actor"])
        expected = {"name": "quiet", "state": "open", "size": 3, "maxsize": 10, "unsent": 0,
                    "puts": 3, "gets": 0, "lost": 0, "waiting_getters": 0,
                    "waiting_putters": 0, "processes": 2, "creator": scene.pids["actor"]}
        assert expected.items() <= queue.items(), queue
        line = output("ls", "quiet").splitlines()[1].split()
        assert line[:9] == [str(queue["inode"]), "quiet", "3", "10", "0", "3", "0", "0", "0"], line
        assert output("ls", "no such name").count("\n") == 1


def a_queue_has_three_names():
    with Scene("quiet") as scene:
        @soon
        def _():
            by_pid = output_json("show", "--json", scene.pids["idler"])
            assert by_pid == output_json("show", "--json", "quiet")
            assert by_pid == output_json("show", "--json", by_pid["inode"])


def show_has_the_processes():
    with Scene("tasks") as scene:
        @soon
        def _():
            queue = output_json("show", "--json", "tasks")
            processes = {process["pid"]: process for process in queue["processes"]}
            assert sorted(processes) == sorted(scene.pids.values())
            worker = processes[scene.pids["worker"]]
            assert (worker["got"], worker["tasks"], worker["put"]) == (3, 2, 0), worker
            assert worker["command"] == "worker" and worker["life"] == "alive"
            assert processes[scene.pids["actor"]]["put"] == 5
            assert (queue["tasks"], queue["size"], queue["joiners"]) == (4, 2, 1), queue
            joiner = scene.pids["joiner"]
            assert queue["waits"] == [{"pid": joiner, "tid": joiner, "for": "tasks"}], queue
            assert re.search(r"worker +alive +0 +0 +3 +2\n", output("show", "tasks"))


def show_has_the_owner_of_a_lock():
    with Scene("empty") as scene:
        @soon
        def _():
            queue = output_json("show", "--json", "empty")
            assert len(queue["waits"]) == 2 and len(queue["locks"]) == 1, queue
            lock, = queue["locks"]
            assert lock["lock"] == "turn" and lock["contended"], lock
            assert lock["pid"] in (scene.pids["getter"], scene.pids["second"]), lock
            assert f"lock turn: process {lock['pid']}" in output("show", "empty")


def the_dead_are_seen_with_what_they_left():
    with Scene("dead") as scene:
        @soon
        def _():
            queue = output_json("show", "--json", "dead")
            victim, = [p for p in queue["processes"] if p["pid"] == scene.pids["victim"]]
            assert victim["life"] == "dead" and not victim["open"], victim
            assert victim["unsent"] > 0 and victim["put"] == 900, victim


def the_stopped_are_seen():
    with Scene("stopped") as scene:
        @soon
        def _():
            queue = output_json("show", "--json", "stopped")
            reader, = [p for p in queue["processes"] if p["pid"] == scene.pids["reader"]]
            assert reader["life"] == "stopped", reader


def shutdown_is_seen():
    with Scene("down") as scene:
        assert only_queue(scene.pids["actor"])["state"] == "draining"


def looking_changes_nothing():
    with Scene("quiet"):
        first = output("show", "--json", "quiet")
        for _ in range(20):
            assert output("show", "--json", "quiet") == first


def a_busy_queue_adds_up():
    with Scene("busy") as scene:
        until(lambda: only_queue(scene.pids["actor"])["gets"] > 1000)
        for _ in range(50):
            queue = only_queue(scene.pids["actor"])
            assert 0 <= queue["size"] <= 100 and queue["lost"] == 0, queue
            assert queue["gets"] <= queue["puts"] + 100, queue


def five_hundred_queues():
    with Scene("many", "500") as scene:
        queues = output_json("ls", "--json", scene.pids["actor"])
        assert len({queue["inode"] for queue in queues}) == 500
        refused(5, "one of 500 queues", "show", "many")


def bad_arguments_are_refused():
    refused(2, "no such command: lsx", "lsx")
    refused(2, "no such option: --jsn", "ls", "--jsn")
    refused(2, "takes no argument", "ls", "--json=1")
    refused(2, "needs an argument", "get", "x", "--count")
    refused(2, "not a number: x", "get", "q", "--timeout", "x")
    refused(2, "which queue?", "show")
    refused(5, "no queue nosuch", "show", "nosuch")
    refused(5, "no process 4194305", "ls", "4194305")
    code, out, _ = run("help")
    assert code == 0 and "doctor" in out
    assert re.fullmatch(r"forkq (\S+), library \1\n", output("--version"))
    for command in re.findall(r"^  ([a-z]+) +\S", out, re.MULTILINE):
        if command not in ("help", "version"):
            assert output(command, "--help").startswith(f"usage: forkq {command} ")


def a_process_of_another_user_is_refused():
    if os.getuid() != 0:
        return
    with Scene("quiet") as scene:
        result = subprocess.run(["setpriv", "--reuid=65534", "--clear-groups", tool, "ls",
                                 str(scene.pids["actor"])], capture_output=True, check=False)
        # The program itself may be where nobody else can run it.
        assert result.returncode in (6, 126, 127), result
        if result.returncode == 6:
            assert b"cannot look at process" in result.stderr


def memory_that_is_none_is_told():
    name = "forkq:forged"
    fd = os.memfd_create(name)
    os.write(fd, b"not a queue" * 1000)
    try:
        queue = only_queue(os.getpid())
        assert queue["error"] == "not a valid handover of a queue", queue
        assert "not a valid handover" in output("ls", os.getpid())
        refused(1, "not a valid handover", "show", os.getpid())
    finally:
        os.close(fd)


def another_layout_is_told():
    with Scene("quiet") as scene:
        pid = scene.pids["actor"]
        fds = f"/proc/{pid}/fd"
        memory, = {os.path.join(fds, fd) for fd in os.listdir(fds)
                   if os.readlink(os.path.join(fds, fd)).startswith("/memfd:forkq:quiet")
                   and "lock:" not in open(f"/proc/{pid}/fdinfo/{fd}", encoding="ascii").read()}
        with open(memory, "rb") as file:
            head = bytearray(file.read(4096))
        head[8] += 1  # the layout, after the magic
        fd = os.memfd_create("forkq:newer")
        os.write(fd, head)
        try:
            assert only_queue(os.getpid())["error"] == "queue has another version or layout"
        finally:
            os.close(fd)


def processes_may_end_while_they_are_read():
    with Scene("quiet") as scene:
        os.kill(scene.pids["idler"], signal.SIGKILL)
        until(lambda: len(output_json("show", "--json", "quiet")["processes"]) == 1)


def doctor_finds_what_hurts():
    findings = {f["what"]: f for f in output_json("doctor", "--json")}
    assert findings["a queue"]["value"] == "can be created", findings
    assert findings["kernel"]["value"] == os.uname().release
    limited = subprocess.run(["sh", "-c", 'ulimit -f 1; exec "$0" doctor', tool],
                             capture_output=True, text=True, check=False)
    assert limited.returncode == 1 and "broken  file size" in limited.stdout, limited
    assert "broken  a queue" in limited.stdout, limited
    few = subprocess.run(["sh", "-c", 'ulimit -n 40; exec "$0" doctor', tool],
                         capture_output=True, text=True, check=False)
    assert few.returncode == 0 and "hurts   descriptors" in few.stdout, few


def metrics_are_open_metrics():
    with Scene("quiet") as scene:
        text = output("metrics", scene.pids["actor"])
        assert text.endswith("\n# EOF\n")
        inode = only_queue(scene.pids["actor"])["inode"]
        assert f'forkq_size{{queue="{inode}",name="quiet"}} 3\n' in text
        assert f'forkq_put_items_total{{queue="{inode}",name="quiet"}} 3\n' in text
        for line in text.splitlines():
            assert re.fullmatch(r"# (TYPE forkq_\w+ (gauge|counter)|HELP forkq_\w+ .*\.|EOF)|"
                                r'forkq_\w+\{queue="\d+",name="[\w.-]*"\} \d+', line), line


def commands():
    return re.findall(r"^  ([a-z]+) +\S", output("help"), re.MULTILINE)


def options_of(command):
    if command in ("help", "version"):
        return set()
    return set(re.findall(r"^  (--[a-z]+)", output(command, "--help"), re.MULTILINE)) - {"--help"}


def the_manual_and_the_completion_have_every_option():
    with open(f"{root}/docs/man/forkq.1", encoding="ascii") as file:
        manual = file.read()
    with open(f"{root}/src/tool/forkq.bash", encoding="ascii") as file:
        completion = file.read()
    assert f"words='{' '.join(commands())}'" in completion
    for command in commands():
        entry = re.search(rf"^\.It Cm {command}( .*)?$", manual, re.MULTILINE)
        assert entry, command
        options = options_of(command)
        assert {"-" + found for found in re.findall(r"Fl (-[a-z]+)", entry[0])} == options, command
        completed = re.search(rf"^ +(?:[a-z]+ \| )*{command}(?: \| [a-z]+)*\) words='(.*)' ;;$",
                              completion, re.MULTILINE)
        assert set(completed[1].split() if completed else []) == options, command


def the_completion_completes():
    script = f'. "$0"; COMP_WORDS=(forkq "$@"); COMP_CWORD=$#; _forkq; printf "%s\\n" "${{COMPREPLY[@]}}"'

    def complete(*words):
        path = {"PATH": f"{os.path.dirname(tool)}:{os.environ['PATH']}"}
        out = subprocess.run(["bash", "-c", script, f"{root}/src/tool/forkq.bash", *words],
                             capture_output=True, text=True, env={**os.environ, **path}, check=True)
        assert out.stderr == "", out
        return out.stdout.split()
    assert complete("sh") == ["show", "shutdown"]
    assert complete("why", "--c") == ["--cases"]
    with Scene("quiet"):
        assert complete("get", "qui") == ["quiet"]


main([ls_has_the_numbers, a_queue_has_three_names, show_has_the_processes,
      show_has_the_owner_of_a_lock, the_dead_are_seen_with_what_they_left, the_stopped_are_seen,
      shutdown_is_seen, looking_changes_nothing, a_busy_queue_adds_up, five_hundred_queues,
      bad_arguments_are_refused, a_process_of_another_user_is_refused,
      memory_that_is_none_is_told, another_layout_is_told, processes_may_end_while_they_are_read,
      doctor_finds_what_hurts, metrics_are_open_metrics,
      the_manual_and_the_completion_have_every_option, the_completion_completes])
