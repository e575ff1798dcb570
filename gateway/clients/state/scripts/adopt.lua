-- Take a launch over whose lease has run out or was given up.
-- KEYS: launch, its batches.  ARGV: owner, lease (ms), keep (ms).
local found = redis.call('HMGET', KEYS[1], 'owner', 'leased', 'over')
if not found[1] then return 'gone' end
if found[3] then return 'over' end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
if found[1] ~= ARGV[1] and found[1] ~= '' and tonumber(found[2]) > now then return 'held' end
redis.call('HSET', KEYS[1], 'owner', ARGV[1], 'leased', now + tonumber(ARGV[2]))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return 'adopted'
