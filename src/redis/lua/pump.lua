-- Lets puts in that wait, the first one first, while there is room. One whose time is over has given up.
if redis.call('EXISTS', q .. 'w') == 1 then
-- include now.lua
  local room = tonumber(redis.call('HGET', q .. 'm', 'max') or '0') - redis.call('LLEN', q .. 'i')
  while room > 0 do
    local id = redis.call('LPOP', q .. 'w')
    if not id then break end
    local ends = redis.call('HGET', q .. 'wd', id)
    redis.call('HDEL', q .. 'wd', id)
    if ends == '0' or tonumber(ends or '0') > now then
      local putter, number = string.match(id, '^(.*):(%d+)$')
      redis.call('RPUSH', q .. 'i', id)
      redis.call('HSET', q .. 'm', 'p' .. putter, number)
      redis.call('RPUSH', q .. 'b:' .. putter, number)
      redis.call('PEXPIRE', q .. 'b:' .. putter, 60000)
      room = room - 1
    else
      redis.call('HDEL', q .. 'p', id)
    end
  end
end
