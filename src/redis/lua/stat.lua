-- Answers with the items in the queue, maxsize, whether it is shut down, the unfinished items, and the puts that wait.
local q = KEYS[1]
local is = redis.call('HMGET', q .. 'm', 'max', 'shut')
if not is[1] then return redis.error_reply('FORKQGONE the queue was deleted') end
local waiting, items = redis.call('LLEN', q .. 'w'), redis.call('LLEN', q .. 'i')
if is[2] and items > 0 then items = items - 1 end
return { items, tonumber(is[1]), tonumber(is[2] or '0'), redis.call('HLEN', q .. 'p') - waiting, waiting }
