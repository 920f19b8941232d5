-- Makes the queue, if there is none, and a client of it; or finds the client again.
-- maxsize ('': any), joinable ('': any), lease in ms, the queue's id and the client's number as they were ('', 0)
local q = KEYS[1]
-- include now.lua
local has = redis.call('HMGET', q .. 'm', 'v', 'id', 'max', 'join')
if not has[1] then
  has = { '1', time[1] .. '.' .. time[2], ARGV[1] ~= '' and ARGV[1] or '0', ARGV[2] ~= '' and ARGV[2] or '0' }
  -- Clients of a queue that was deleted may still think that it is there. They had lower numbers.
  redis.call('HSET', q .. 'm', 'v', has[1], 'id', has[2], 'max', has[3], 'join', has[4],
    'clients', string.format('%d', now))
end
if has[1] ~= '1' then return redis.error_reply('FORKQVERSION the queue has version ' .. has[1]) end
if ARGV[1] ~= '' and ARGV[1] ~= has[3] then
  return redis.error_reply('FORKQDIFFERS the queue has maxsize=' .. has[3])
end
if ARGV[2] ~= '' and ARGV[2] ~= has[4] then
  return redis.error_reply('FORKQDIFFERS the queue has joinable=' .. has[4])
end
local client, known, kept = ARGV[5], 0, 0
if client ~= '0' and ARGV[4] == has[2] then
  known = 1
  kept = redis.call('ZSCORE', q .. 'l', client) and 1 or 0
  redis.call('ZREM', q .. 'g', client)
else
  client = redis.call('HINCRBY', q .. 'm', 'clients', 1)
end
redis.call('ZADD', q .. 'l', now + ARGV[3], client)
return { tonumber(client), has[2], tonumber(has[3]), tonumber(has[4]), known, kept }
