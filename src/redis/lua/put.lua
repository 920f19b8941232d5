-- client, number of the first message, how long it may wait in ms (0: not; -1: without limit), messages
-- Says how many messages are in the queue; 0: there is no room; -1: the first one waits; -2: the queue is shut down.
local q, client, first = KEYS[1], ARGV[1], tonumber(ARGV[2])
-- include pump.lua
local is = redis.call('HMGET', q .. 'm', 'max', 'shut', 'p' .. client)
if not is[1] then return redis.error_reply('FORKQGONE the queue was deleted') end
local last = tonumber(is[3] or '0')
if last >= first then return last - first + 1 end
if is[2] then return -2 end
local count, max = #ARGV - 3, tonumber(is[1])
if max > 0 then
  -- If puts still wait, there is no room: nobody overtakes them.
  local room = max - redis.call('LLEN', q .. 'i')
  if room < count then count = room end
end
if count <= 0 then
  if ARGV[3] == '0' then return 0 end
  local id = client .. ':' .. ARGV[2]
  if redis.call('HEXISTS', q .. 'wd', id) == 0 then
    local ends = 0
    if ARGV[3] ~= '-1' then
-- include now.lua
      ends = now + ARGV[3]
    end
    redis.call('HSET', q .. 'p', id, ARGV[4])
    redis.call('RPUSH', q .. 'w', id)
    redis.call('HSET', q .. 'wd', id, ends)
  end
  return -1
end
local ids, bodies = {}, {}
for k = 1, count do
  ids[k] = client .. ':' .. string.format('%d', first + k - 1)
  bodies[2 * k - 1] = ids[k]
  bodies[2 * k] = ARGV[3 + k]
end
redis.call('HSET', q .. 'p', unpack(bodies))
redis.call('RPUSH', q .. 'i', unpack(ids))
redis.call('HSET', q .. 'm', 'p' .. client, first + count - 1)
return count
