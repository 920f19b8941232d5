-- client, ids that it has done
-- Ends a client, which gives back what it has not done.
local q, client, first = KEYS[1], ARGV[1], 2
-- include confirm.lua
-- include give_back.lua
redis.call('ZREM', q .. 'l', client)
redis.call('DEL', q .. 'b:' .. client)
redis.call('HDEL', q .. 'm', 'p' .. client, 'f' .. client)
-- include drained.lua
return confirmed
