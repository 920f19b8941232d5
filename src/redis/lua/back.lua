-- client, ids of all that it knows of
-- After a lost answer: what the client was given, and does not know of, goes back to the head of the queue.
local q, client, known = KEYS[1], ARGV[1], {}
for k = 2, #ARGV do known[ARGV[k]] = true end
while true do
  local id = redis.call('RPOP', q .. 't:' .. client)
  if not id then break end
  redis.call(id == '!' and 'RPUSH' or 'LPUSH', q .. 'i', id)
end
local ids = redis.call('LRANGE', q .. 'c:' .. client, 0, -1)
for k = #ids, 1, -1 do
  if not known[ids[k]] then
    redis.call('LREM', q .. 'c:' .. client, -1, ids[k])
    redis.call('LPUSH', q .. 'i', ids[k])
  end
end
return 0
