-- Prolong the leases on launches.
-- KEYS: for each launch its hash and its stream.  ARGV: owner, lease (ms), keep (ms).
local time = redis.call('TIME')
local leased = time[1] * 1000 + math.floor(time[2] / 1000) + tonumber(ARGV[2])
local answers = {}
for i = 1, #KEYS, 2 do
  local found = redis.call('HMGET', KEYS[i], 'owner', 'cancelled')
  if not found[1] then
    answers[#answers + 1] = 'gone'
  elseif found[1] ~= ARGV[1] then
    answers[#answers + 1] = 'lost'
  else
    redis.call('HSET', KEYS[i], 'leased', leased)
    redis.call('PEXPIRE', KEYS[i], ARGV[3])
    redis.call('PEXPIRE', KEYS[i + 1], ARGV[3])
    answers[#answers + 1] = found[2] and 'cancelled' or 'mine'
  end
end
return answers
