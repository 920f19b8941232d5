"""forkq put, get, peek, drain and shutdown, from a shell's point of view."""

import os
import subprocess

from stage import PATIENCE, Scene, main, output, output_json, refused, run, tool, until

# The numbers that the scene "quiet" has put.
FIRST = ["0", "1", "2"]

# Each is what it becomes, in a queue and out of it.
ITEMS = ["null", "true", "[]", "{}", "-1", "1.5", "9223372036854775807", '""', '[""]', '{"":1}',
         '"h\u00f6i"', '"a\\u0000b"',
         '{"a":[1,{"b":null}]}', '{"$bin":""}', '{"$bin":"AA=="}', '{"$bin":"AAE="}',
         '{"$bin":"AAEC"}', '{"$ext":[-1,"/+8="]}', '{"$ext":[5,"YQ=="]}',
         '{"$str":"/w=="}', '{"$float":"nan"}', '{"$float":"inf"}', '{"$float":"-inf"}',
         '{"$uint":"18446744073709551615"}', '{"$map":[[1,"x"],["a",2]]}',
         '{"$map":[["a",1],["a",2]]}', '{"$map":[["$bin","AA=="]]}', '{"$a":1,"b":2}']

NO_ITEMS = ["", "[", "1 2", "{1:2}", '{"$bin":1}', '{"$bin":"A"}', '{"$bin":"A==="}', '{"$bin":"AA*="}',
            '{"$ext":[128,""]}', '{"$ext":[1]}', '{"$float":"x"}', '{"$uint":"-1"}',
            '{"$uint":"18446744073709551616"}', '{"$map":[[1]]}', '{"$no":1}',
            "[" * 33 + "]" * 33, "99999999999999999999"]


def items_come_back_as_they_were():
    with Scene("quiet"):
        output("drain", "quiet")
        for item in ITEMS:
            output("put", "quiet", item)
            assert output("peek", "quiet") == item + "\n", item
            assert output("get", "quiet") == item + "\n", item


def what_is_no_item_is_refused():
    with Scene("quiet"):
        for item in NO_ITEMS:
            refused(2, "item 1", "put", "quiet", "--", item)
        refused(2, "item 2 is not JSON", "put", "quiet", "7", "x")
        assert output("drain", "quiet").split() == FIRST + ["7"]


def items_from_the_input():
    with Scene("quiet"):
        output("drain", "quiet")
        output("put", "quiet", text_input="[1,\n2]\n")
        output("put", "quiet", "--lines", text_input='1\n"b"\n\n{"c":2}')
        output("put", "quiet", "--lines", "--text", text_input="a line\n1\n")
        assert output("peek", "quiet").split("\n") == ["[1,2]", "1", '"b"', '{"c":2}', '"a line"',
                                                       '"1"', ""]
        assert output("drain", "quiet", "--text").split("\n") == ["[1,2]", "1", "b", '{"c":2}',
                                                                  "a line", "1", ""]


def input_that_cannot_be_read():
    with Scene("quiet"):
        for options in [], ["--lines"], ["--msgpack"]:
            with open(os.devnull, "wb") as unreadable:
                result = subprocess.run([tool, "put", "quiet", *options], stdin=unreadable, check=False,
                                        capture_output=True, timeout=PATIENCE)
            assert result.returncode == 1 and b"cannot read the standard input" in result.stderr, result
        assert output("drain", "quiet").split() == FIRST


def msgpack_as_it_is():
    with Scene("quiet"):
        output("drain", "quiet")
        data = b"\x93\x01\x02\x03\xc0\xd4\x05\xff"
        result = subprocess.run([tool, "put", "quiet", "--msgpack"], input=data, check=False)
        assert result.returncode == 0
        out = subprocess.run([tool, "get", "quiet", "--count", "3", "--msgpack"],
                             capture_output=True, check=True).stdout
        assert out == data, out
        bad = subprocess.run([tool, "put", "quiet", "--msgpack"], input=b"\x93\x01", check=False,
                             capture_output=True)
        assert bad.returncode == 2 and b"is not msgpack" in bad.stderr, bad


def peek_takes_nothing():
    with Scene("quiet"):
        for _ in range(5):
            assert output("peek", "quiet").split() == FIRST
        assert output("peek", "quiet", "--count", "2").split() == FIRST[:2]
        before = output_json("show", "--json", "quiet")
        assert (before["size"], before["gets"], before["recoveries"]) == (3, 0, 0), before
        # The packet is read ahead by the first get, so that two lie in the memory.
        assert output("get", "quiet").split() == FIRST[:1]
        assert output("peek", "quiet").split() == FIRST[1:]


def peek_shows_large_items():
    with Scene("quiet"):
        output("drain", "quiet")
        items = ["x" * 500, "y" * 600, "z" * 5000, "w" * 100000]
        for item in items:  # beside the pipe from 512 bytes on
            output("put", "quiet", "--text", item)
        assert output("peek", "quiet", "--text").split() == items
        assert output("drain", "quiet", "--text").split() == items


def peek_joins_fragments_and_says_what_it_does_not_see():
    with Scene("fragments"):
        assert [len(line) for line in output("peek", "fragments", "--text").split()] == [20000, 20000]
    with Scene("unread"):
        code, out, said = run("peek", "unread")
        assert code == 0 and out.count("\n") > 10 and "items more are not sent yet" in said, said


def peek_of_a_busy_queue():
    with Scene("busy"):
        first = -1
        for _ in range(50):
            numbers = [int(line) for line in output("peek", "busy").split()]
            assert numbers == sorted(numbers), numbers
            assert not numbers or numbers[0] >= first, (numbers, first)
            first = numbers[0] if numbers else first


def timeouts_and_exit_codes():
    with Scene("quiet"):
        refused(3, "after 7 items: timed out", "put", "quiet", "--timeout", "0.05", *"12345678")
        assert len(output("drain", "quiet").split()) == 10
        refused(3, "timed out", "get", "quiet", "--timeout", "0.05")
        refused(3, "queue is empty", "get", "quiet", "--timeout", "0")
        assert output("drain", "quiet") == ""
        refused(2, "--count is at least 1", "get", "quiet", "--count", "0")
        refused(2, "only one", "put", "quiet", "1", "--lines")
        refused(2, "only one", "get", "quiet", "--text", "--msgpack")
        refused(5, "no queue nosuch", "put", "nosuch", "1")
        refused(5, "no queue nosuch", "peek", "nosuch")


def a_get_waits():
    with Scene("quiet"):
        output("drain", "quiet")
        getter = subprocess.Popen([tool, "get", "quiet"], stdout=subprocess.PIPE, text=True)
        until(lambda: output_json("show", "--json", "quiet")["waits"])
        output("put", "quiet", "8")
        assert getter.communicate(timeout=PATIENCE)[0] == "8\n" and getter.returncode == 0


def a_get_ends_with_the_last_process_that_could_put():
    with Scene("quiet"):
        output("drain", "quiet")
        getter = subprocess.Popen([tool, "get", "quiet"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                  text=True)
        until(lambda: output_json("show", "--json", "quiet")["waits"])
    out, said = getter.communicate(timeout=PATIENCE)
    assert getter.returncode == 4 and out == "" and "no process is left that could put" in said, said


def drain_counts():
    with Scene("quiet"):
        assert output("drain", "quiet", "--discard") == "3\n"
        assert output("drain", "quiet", "--discard") == "0\n"


def shutdown_ends_puts_and_then_gets():
    with Scene("quiet"):
        assert output("shutdown", "quiet") == ""
        refused(4, "shut down", "put", "quiet", "1")
        assert output("get", "quiet", "--count", "3").split() == FIRST
        refused(4, "shut down", "get", "quiet")
    with Scene("quiet"):
        output("shutdown", "quiet", "--immediate")
        assert output_json("show", "--json", "quiet")["state"] == "dropped"
        refused(4, "shut down", "get", "quiet")


def tasks_are_done_when_they_are_written():
    with Scene("tasks"):
        assert len(output("get", "tasks", "--count", "2").split()) == 2
        queue = output_json("show", "--json", "tasks")
        assert (queue["tasks"], queue["abandoned"]) == (2, 0), queue


def what_cannot_be_written_is_not_done():
    def look():
        queue = output_json("show", "--json", "tasks")
        return queue["size"], queue["tasks"] + queue["abandoned"]  # whether or not the death is noticed

    with Scene("tasks"), open("/dev/full", "wb") as full:
        for item in "x", "y" * 100000:  # which are written at the flush, and before it
            output("drain", "tasks")
            undone = look()[1]
            for _ in range(2):
                output("put", "tasks", "--text", item)
            result = subprocess.run([tool, "get", "tasks", "--msgpack", "--count", "2"], stdout=full,
                                    stderr=subprocess.PIPE, timeout=PATIENCE, check=False)
            assert result.returncode == 1 and b"cannot write the output" in result.stderr, result
            assert look() == (1, undone + 2), look()


def no_message_goes_into_the_queue():
    with Scene("quiet"):
        command = '"$0" get quiet <&- >&- 2>&-'
        assert subprocess.run(["sh", "-c", command, tool], timeout=PATIENCE, check=False).returncode == 1
        assert output("drain", "quiet").split() == FIRST[1:]


def a_put_notices_the_dead():
    with Scene("unnoticed") as scene:
        assert scene.pids["victim"]
        output("put", "unnoticed", "1")
        until(lambda: output_json("show", "--json", "unnoticed")["lost"] > 0)


def what_cannot_be_sent_is_not_put():
    with Scene("unread"):
        refused(3, "the last 1 of 1 items could not be sent", "put", "unread", "--timeout", "0.1", "1")
        assert "1 of" not in output("show", "unread").splitlines()[4]


main([items_come_back_as_they_were, what_is_no_item_is_refused, items_from_the_input,
      input_that_cannot_be_read,
      msgpack_as_it_is, peek_takes_nothing, peek_shows_large_items,
      peek_joins_fragments_and_says_what_it_does_not_see, peek_of_a_busy_queue,
      timeouts_and_exit_codes, a_get_waits, a_get_ends_with_the_last_process_that_could_put,
      drain_counts, shutdown_ends_puts_and_then_gets,
      tasks_are_done_when_they_are_written, what_cannot_be_written_is_not_done,
      no_message_goes_into_the_queue, a_put_notices_the_dead,
      what_cannot_be_sent_is_not_put])
