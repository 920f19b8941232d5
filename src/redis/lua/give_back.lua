-- What a client was given and has not done goes back to the head, in its order. What it was given last goes first.
-- It has not seen what is in `t`.
for _, from in ipairs({ 't:', 'c:' }) do
  while true do
    local id = redis.call('RPOP', q .. from .. client)
    if not id then break end
    if id == '!' then
      redis.call('RPUSH', q .. 'i', id)
    else
      redis.call('LPUSH', q .. 'i', id)
      if from == 'c:' then redis.call('HINCRBY', q .. 'n', id, 1) end
    end
  end
end
