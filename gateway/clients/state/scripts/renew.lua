-- Prolong the leases on launches.
-- KEYS: for each launch its hash and its stream.  ARGV: owner, lease (ms), keep (ms).
-- Returns for each launch whose it is, and what else is known of it: 'mine cancelled watched'.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local answers = {}
for i = 1, #KEYS, 2 do
  local found = redis.call('HMGET', KEYS[i], 'owner', 'cancelled', 'watched')
  if not found[1] then
    answers[#answers + 1] = 'gone'
  elseif found[1] ~= ARGV[1] then
    answers[#answers + 1] = 'lost'
  else
    redis.call('HSET', KEYS[i], 'leased', now + tonumber(ARGV[2]))
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[3])
    local watched = found[3] and tonumber(found[3]) > now
    answers[#answers + 1] = 'mine' .. (found[2] and ' cancelled' or '') .. (watched and ' watched' or '')
  end
end
return answers
