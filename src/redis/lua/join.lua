-- Says how many items are unfinished, and which entry of `e` was the last.
local q = KEYS[1]
local last = redis.call('XREVRANGE', q .. 'e', '+', '-', 'COUNT', 1)
return { redis.call('HLEN', q .. 'p') - redis.call('LLEN', q .. 'w'), last[1] and last[1][1] or '0-0' }
