-- client, ids that it has done; says how many of them it still had
local q, client, first = KEYS[1], ARGV[1], 2
-- include confirm.lua
-- include drained.lua
return confirmed
