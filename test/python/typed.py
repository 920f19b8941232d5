"""What mypy checks: the types of the module, as a program meets them. test_types.py runs it."""
from typing import Any

import forkq


def use(queue: forkq.Queue[int], tasks: "forkq.JoinableQueue[dict[str, Any]]") -> int:
    queue.put(1, timeout=1.5)
    queue.put_many([1, 2], False)
    total: int = queue.get(block=True) + sum(queue.get_many(5))
    tasks.put({"a": b"b"})
    tasks.task_done()
    tasks.join(1)
    sizes: dict[str, int] = queue.stats()
    return total + sizes["put_items"]


async def use_async(queue: forkq.Queue[str]) -> str:
    await queue.aput("text")
    async for text in queue:
        return text
    return await queue.aget()


simple: forkq.SimpleQueue[forkq.Ext] = forkq.SimpleQueue()
simple.put(forkq.Ext(1, b"data"))
code: int = simple.get().code
try:
    use(forkq.Queue(5, name="five"), forkq.JoinableQueue(lost_tasks="tell"))
except forkq.Abandoned as error:
    print(error.count, error.strerror)
except (forkq.Empty, forkq.Full, forkq.ShutDown, forkq.CodecError):
    pass
