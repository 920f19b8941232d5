-- whether the items that are left are dropped
-- Shuts the queue down. '!' at the end of `i` wakes the clients that wait for an item, one after the other.
local q, immediate = KEYS[1], ARGV[1] == '1'
local was = redis.call('HGET', q .. 'm', 'shut')
if was == '2' or (was and not immediate) then return 0 end
redis.call('HSET', q .. 'm', 'shut', immediate and 2 or 1)
while true do
  local id = redis.call('LPOP', q .. 'w')
  if not id then break end
  local putter, number = string.match(id, '^(.*):(%d+)$')
  redis.call('HDEL', q .. 'p', id)
  redis.call('RPUSH', q .. 'b:' .. putter, number .. 'S')
  redis.call('PEXPIRE', q .. 'b:' .. putter, 60000)
end
redis.call('DEL', q .. 'wd')
if immediate then
  for _, id in ipairs(redis.call('LRANGE', q .. 'i', 0, -1)) do
    redis.call('HDEL', q .. 'p', id)
    redis.call('HDEL', q .. 'n', id)
  end
  redis.call('DEL', q .. 'i')
end
if immediate or not was then redis.call('RPUSH', q .. 'i', '!') end
-- include drained.lua
return 1
