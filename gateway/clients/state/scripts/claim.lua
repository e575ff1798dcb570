-- Claim a place under a quota.
-- KEYS: the claims on each quota (sorted set by when they end).
-- ARGV: launch, lease (ms), then for each quota its limit and what else is counted, at last which claims are counted so
-- already (JSON: a list of names for each quota, each of them once).
-- Returns 0 = claimed under all, or the number of the first quota that is full.
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local counted = cjson.decode(ARGV[#ARGV])
for i = 1, #KEYS do
  redis.call('ZREMRANGEBYSCORE', KEYS[i], '-inf', now)
  if not redis.call('ZSCORE', KEYS[i], ARGV[1]) then
    local taken = redis.call('ZCARD', KEYS[i]) + tonumber(ARGV[2 * i + 2])
    for _, name in ipairs(counted[i]) do
      if redis.call('ZSCORE', KEYS[i], name) then taken = taken - 1 end
    end
    if taken >= tonumber(ARGV[2 * i + 1]) then return i end
  end
end
for i = 1, #KEYS do
  redis.call('ZADD', KEYS[i], now + tonumber(ARGV[2]), ARGV[1])
  if redis.call('PTTL', KEYS[i]) < tonumber(ARGV[2]) then redis.call('PEXPIRE', KEYS[i], ARGV[2]) end
end
return 0
