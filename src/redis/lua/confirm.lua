-- Items that a client has done, of those that it still has: the others may be another client's by now.
local confirmed = 0
for k = first, #ARGV do
  if redis.call('LREM', q .. 'c:' .. client, 1, ARGV[k]) == 1 then
    redis.call('HDEL', q .. 'p', ARGV[k])
    redis.call('HDEL', q .. 'n', ARGV[k])
    confirmed = confirmed + 1
  end
end
