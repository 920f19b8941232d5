-- Wakes those who join, where nothing is unfinished.
if redis.call('HLEN', q .. 'p') == redis.call('LLEN', q .. 'w') then
  redis.call('XADD', q .. 'e', 'MAXLEN', 1, '*', 'd', 1)
end
