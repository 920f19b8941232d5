-- The answer to a client that was given `ids`: an id, a body, and how often it was given before.
if #ids > 0 then
  local bodies = redis.call('HMGET', q .. 'p', unpack(ids))
  local again = redis.call('EXISTS', q .. 'n') == 1 and redis.call('HMGET', q .. 'n', unpack(ids))
  for k = 1, #ids do
    answer[#answer + 1] = ids[k]
    answer[#answer + 1] = bodies[k]
    answer[#answer + 1] = again and again[k] or '0'
  end
end
