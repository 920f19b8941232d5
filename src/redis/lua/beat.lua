-- lease in ms, numbers of clients that live
-- Gives back what clients had whose lease is over. Answers with those of the numbers that had lost their lease.
local q = KEYS[1]
-- include now.lua
local lost = {}
for k = 2, #ARGV do
  if not redis.call('ZSCORE', q .. 'l', ARGV[k]) then
    lost[#lost + 1] = tonumber(ARGV[k])
    redis.call('ZREM', q .. 'g', ARGV[k])
  end
  redis.call('ZADD', q .. 'l', now + ARGV[1], ARGV[k])
end
for _, client in ipairs(redis.call('ZRANGEBYSCORE', q .. 'l', '-inf', now, 'LIMIT', 0, 16)) do
-- include give_back.lua
  for _, id in ipairs(redis.call('LRANGE', q .. 'w', 0, -1)) do
    if string.match(id, '^(.*):%d+$') == client then
      redis.call('LREM', q .. 'w', 1, id)
      redis.call('HDEL', q .. 'wd', id)
      redis.call('HDEL', q .. 'p', id)
    end
  end
  redis.call('ZREM', q .. 'l', client)
  redis.call('DEL', q .. 'b:' .. client)
  redis.call('ZADD', q .. 'g', now, client)
end
for _, client in ipairs(redis.call('ZRANGEBYSCORE', q .. 'g', '-inf', now - 86400000, 'LIMIT', 0, 16)) do
  redis.call('HDEL', q .. 'm', 'p' .. client, 'f' .. client)
  redis.call('ZREM', q .. 'g', client)
end
-- include pump.lua
return lost
