-- client, the most items, 'fetch' or 'seen', 'done' or 'known', ids
-- Confirms the ids that are done. Gives what the client was given while it was blocked, then what is first in the queue.
-- 'seen', after a lost answer: before that, what the client was given, where the ids are all that it knows of.
-- Answers with whether the queue is shut down and empty, and then with id, body, times for each.
local q, client, most, first = KEYS[1], ARGV[1], tonumber(ARGV[2]), 5
local answer, ids = { 0 }, {}
if ARGV[4] == 'done' then
-- include confirm.lua
end
if ARGV[3] == 'seen' then
  local known = {}
  for k = 5, #ARGV do known[ARGV[k]] = true end
  for _, id in ipairs(redis.call('LRANGE', q .. 'c:' .. client, 0, -1)) do
    if not known[id] then ids[#ids + 1] = id end
  end
-- include bodies.lua
  if #ids > 0 then return answer end
end
ids = redis.call('LRANGE', q .. 't:' .. client, 0, most - 1)
if #ids > 0 then redis.call('LTRIM', q .. 't:' .. client, #ids, -1) end
if #ids < most then
  for _, id in ipairs(redis.call('LPOP', q .. 'i', most - #ids) or {}) do ids[#ids + 1] = id end
end
for k = #ids, 1, -1 do
  if ids[k] == '!' then
    table.remove(ids, k)
    redis.call('RPUSH', q .. 'i', '!')
    answer[1] = 1
  end
end
if #ids > 0 then redis.call('RPUSH', q .. 'c:' .. client, unpack(ids)) end
-- include bodies.lua
-- include pump.lua
return answer
