-- What became of a put: client, number of its first message, how many it has, whether it gives up.
-- Says how many are in the queue; 0: none; -1: it waits; -2: none, and the queue is shut down. After it has given up,
-- the put has no effect any more, whenever it comes.
local q, client, first = KEYS[1], ARGV[1], tonumber(ARGV[2])
-- include pump.lua
local is = redis.call('HMGET', q .. 'm', 'p' .. client, 'f' .. client, 'shut')
if is[2] == ARGV[2] then return is[3] and -2 or 0 end
local last = tonumber(is[1] or '0')
if last >= first then return last - first + 1 end
local id = client .. ':' .. ARGV[2]
if ARGV[4] == '0' then
  if redis.call('HEXISTS', q .. 'wd', id) == 1 then return -1 end
  return is[3] and -2 or 0
end
if redis.call('HDEL', q .. 'wd', id) == 1 then
  redis.call('LREM', q .. 'w', 1, id)
  redis.call('HDEL', q .. 'p', id)
end
redis.call('HSET', q .. 'm', 'p' .. client, first + ARGV[3] - 1, 'f' .. client, ARGV[2])
return is[3] and -2 or 0
